//! `verify`, `quarantine` and `backfill`: what whoever asks for proof, or mends what is missing, types.

use activity_api::{ContentType, TenantId};
use clap::Subcommand;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{ConfigArg, Format, content_type_parser};

/// What is to be verified.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// The first instant, such as 2026-07-16T09:00:00Z or 2026-07-16 (00:00 UTC). Without it, where listing began.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) from: Option<Timestamp>,
    /// The first instant that is not asked for any more. Without it, the end of the last hour that ended 15 minutes ago,
    /// or two poll intervals where those are longer.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) to: Option<Timestamp>,
    /// List Microsoft's side anew, as far back as Microsoft lists, and name what the ledger does not have.
    #[arg(long)]
    pub(crate) again: bool,
    /// The form of the answer.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// What is to be fetched now.
#[derive(Debug, clap::Args)]
pub(crate) struct BackfillArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// The first instant, such as 2026-07-16T09:00:00Z or 2026-07-16 (00:00 UTC).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) from: Timestamp,
    /// The first instant that is not asked for any more. Without it, now.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) to: Option<Timestamp>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineAction {
    /// What is in quarantine, oldest first, and why.
    List {
        /// Only of this tenant.
        #[arg(long, value_name = "ID")]
        tenant: Option<TenantId>,
        /// Only of this content type, by Microsoft's name.
        #[arg(long, value_name = "NAME", value_parser = content_type_parser(), ignore_case = true)]
        content_type: Option<ContentType>,
        /// The form of the answer.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// One item: what is known of it on standard error, its bytes on standard output.
    Show {
        /// Its id, as `list` shows it.
        id: u64,
        /// The bytes exactly as they came, on a terminal too.
        #[arg(long)]
        raw: bool,
        /// The form of the answer. With json all of it goes to standard output.
        #[arg(long, value_enum, default_value_t = Format::Text, conflicts_with = "raw")]
        format: Format,
    },
    /// Have items delivered once more, by the running collector or the next one.
    Retry {
        #[command(flatten)]
        chosen: ChosenArgs,
    },
    /// Take items out of quarantine for good. Their bytes are deleted; that they were dropped, and why, stays on record.
    Drop {
        #[command(flatten)]
        chosen: ChosenArgs,
        /// Why they are not wanted, for whoever asks later.
        #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: String,
    },
}

/// Which items.
#[derive(Debug, clap::Args)]
pub(crate) struct ChosenArgs {
    /// Their ids, as `list` shows them.
    #[arg(required_unless_present = "all", value_name = "ID")]
    pub(crate) ids: Vec<u64>,
    /// All that are in quarantine now.
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,
    /// With --all, only those of this tenant.
    #[arg(long, value_name = "ID", requires = "all")]
    pub(crate) tenant: Option<TenantId>,
    /// With --all, only those of this content type.
    #[arg(long, value_name = "NAME", requires = "all", value_parser = content_type_parser(), ignore_case = true)]
    pub(crate) content_type: Option<ContentType>,
}

/// A date stands for its first instant, UTC. Any other time must say its zone: one that is taken for another is worse than
/// none.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let date = text
        .parse::<Date>()
        .ok()
        // Not the date of a time that lacks its zone.
        .filter(|_| !text.contains(['T', 't', ' ', ':']));
    date.and_then(|date| date.to_zoned(TimeZone::UTC).ok())
        .map(|zoned| zoned.timestamp())
        .ok_or_else(|| {
            "must be a time with its zone, such as 2026-07-16T09:00:00Z or 2026-07-16T11:00:00+02:00, or a date".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn a_time_is_taken_with_its_zone_and_a_date_as_its_first_instant() {
        let taken = |text| moment(text).unwrap().to_string();
        assert_eq!(taken("2026-07-16"), "2026-07-16T00:00:00Z");
        assert_eq!(taken("2026-07-16T11:00:00+02:00"), "2026-07-16T09:00:00Z");
        assert_eq!(taken("2026-07-16 09:00:00Z"), "2026-07-16T09:00:00Z");
        for text in [
            "2026-07-16T09:00:00",
            "2026-07-16 09:00",
            "yesterday",
            "",
            "09:00",
        ] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
