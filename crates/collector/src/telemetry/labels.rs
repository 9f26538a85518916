//! What tells the series of one metric apart, as types: callers hold no label texts.

/// What a request to Microsoft asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// An access token.
    Token,
    /// The list of subscriptions.
    ListSubscriptions,
    /// Starting a subscription.
    Start,
    /// Stopping one.
    Stop,
    /// A page of the content listing.
    ListContent,
    /// A page of the listing of notifications.
    ListNotifications,
    /// A content blob.
    Blob,
    /// The names of sensitive information types.
    DlpSensitiveTypes,
}

impl RequestKind {
    /// The label's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::ListSubscriptions => "list_subscriptions",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::ListContent => "list_content",
            Self::ListNotifications => "list_notifications",
            Self::Blob => "blob",
            Self::DlpSensitiveTypes => "dlp_sensitive_types",
        }
    }
}

/// How a request to Microsoft ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestOutcome {
    /// Answered as asked.
    Ok,
    /// Refused because there were too many.
    Throttled,
    /// Refused for any other reason: trying the same again does not help.
    Refused,
    /// The service failed, and said so.
    Failed,
    /// No whole answer came.
    Unreachable,
}

impl RequestOutcome {
    /// The label's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
        }
    }
}

/// A write to the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LedgerOperation {
    /// `note_seen`.
    NoteSeen,
    /// `note_listed`.
    NoteListed,
    /// `lease`.
    Lease,
    /// `renew`.
    Renew,
    /// `acknowledge`.
    Acknowledge,
    /// `mark_delivered`.
    MarkDelivered,
    /// `retry_later`, `release`, `expire`, `quarantine`: a blob leaves its worker undelivered.
    PutBack,
    /// `quarantine_records`.
    QuarantineRecords,
    /// `remember`.
    Remember,
    /// A read.
    Read,
}

impl LedgerOperation {
    /// The label's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoteSeen => "note_seen",
            Self::NoteListed => "note_listed",
            Self::Lease => "lease",
            Self::Renew => "renew",
            Self::Acknowledge => "acknowledge",
            Self::MarkDelivered => "mark_delivered",
            Self::PutBack => "put_back",
            Self::QuarantineRecords => "quarantine_records",
            Self::Remember => "remember",
            Self::Read => "read",
        }
    }
}

/// What became of a request to the webhook address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WebhookOutcome {
    /// Every blob that concerns us is noted.
    Noted,
    /// Microsoft asked whether we are there.
    Validated,
    /// The auth id was missing or wrong.
    Unauthorized,
    /// The body was too large, too slow or no notification.
    Malformed,
    /// At least one blob of it names a tenant or an address that is not ours.
    Refused,
    /// Too many at once.
    Overloaded,
    /// The ledger did not take it.
    LedgerFailed,
}

impl WebhookOutcome {
    /// The label's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Noted => "noted",
            Self::Validated => "validated",
            Self::Unauthorized => "unauthorized",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
            Self::Overloaded => "overloaded",
            Self::LedgerFailed => "ledger_failed",
        }
    }
}
