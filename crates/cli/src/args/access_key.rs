//! `alertlogic access-key …`: what an administrator types. Neither a password nor a code is ever an argument: those are
//! seen by everybody on the machine, and kept in the shell's history.

use clap::{Args, Subcommand};

use super::Format;

#[derive(Debug, Subcommand)]
pub(crate) enum AccessKeyAction {
    /// Make an access key for a collector. Its secret half is shown once, and can never be had again.
    Create {
        #[command(flatten)]
        account: AccountArg,
        /// The form of the answer.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// The ids of the user's access keys.
    List {
        #[command(flatten)]
        account: AccountArg,
        /// The form of the answer.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Delete an access key. A collector that uses it delivers nothing from then on.
    Delete {
        #[command(flatten)]
        account: AccountArg,
        /// Its id.
        #[arg(value_name = "ACCESS_KEY_ID")]
        id: String,
        /// Without asking again.
        #[arg(long)]
        yes: bool,
    },
}

/// Whose access keys, and where. The password and the code of a second factor are asked for; where standard input is no
/// terminal they are its lines: the user's name unless it is given here, the password, the code (empty for none).
#[derive(Debug, Args)]
pub(crate) struct AccountArg {
    /// The user's name at Alert Logic, as a rule an e-mail address. Without it, it is asked for.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Alert Logic's API: a host, or a full https:// url. Without it that of the configured sink, or else the production
    /// API.
    #[arg(long, value_name = "HOST")]
    pub(crate) api: Option<String>,
}

impl AccessKeyAction {
    pub(crate) fn account(&self) -> &AccountArg {
        match self {
            Self::Create { account, .. }
            | Self::List { account, .. }
            | Self::Delete { account, .. } => account,
        }
    }
}
