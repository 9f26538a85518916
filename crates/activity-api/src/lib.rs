//! Microsoft's Office 365 Management Activity API as data: ids, requests to send, replies to understand. Opens no socket.

// In reading order. The blank lines keep the formatter from sorting them.

mod ids;

mod cloud;

mod token;

mod certificate;

mod window;

mod feed;

mod reply;

mod notification;

mod error;

mod next_step;

mod record_type;

mod times;

#[cfg(test)]
mod fixtures;

pub use certificate::{ApplicationCertificate, InvalidCertificate, NotSigned};
pub use cloud::{Cloud, Hosts, InvalidCloud, InvalidOrigin, Origin};
pub use error::{ApiErrorCode, Error, read_blob_error, read_error};
pub use feed::{Feed, TrustedUri, Untrusted, UntrustedReason, Webhook};
pub use ids::{ClientId, ContentId, ContentType, InvalidId, PublisherId, TenantId};
pub use next_step::{BlobReason, NextStep, TenantReason};
pub use notification::{
    AUTH_ID_HEADER, MAX_NOTIFIED_BLOBS, NotificationError, NotifiedBlob, VALIDATION_CODE_HEADER,
    read_notification, read_validation,
};
pub use record_type::record_type_name;
pub use reply::{
    AuthIdInForce, ContentBlob, ContentPage, DlpSensitiveType, NotificationsPage, RefusedEntry,
    Reply, SentNotification, Started, Subscription, SubscriptionWebhook, Subscriptions,
    WebhookStatus, read_content, read_dlp_sensitive_types, read_notifications_listing, read_start,
    read_stop, read_subscriptions,
};
pub use token::{
    AccessToken, ApplicationGrant, CredentialReason, Proof, read_token, token_request,
};
pub use window::{
    DueHour, EmptyWindow, LastListing, RELISTING_AGES, Why, Window, covered_until, earliest_hour,
    first_hour, hour_of, plan_hours,
};
