//! Records of mail: administrators' commands and access to mailboxes.

use super::{FILES, Maker, PEOPLE};
use crate::microsoft::json::Json;
use crate::microsoft::template::{DIGITS, GUID, HEX};

impl Maker<'_> {
    pub(super) fn exchange_admin(&mut self) -> (Json, u32) {
        const CMDLETS: [&str; 6] = [
            "Set-Mailbox",
            "New-InboxRule",
            "Set-MailboxPlan",
            "Add-MailboxPermission",
            "Set-User",
            "Update-RoleGroupMember",
        ];
        const PARAMETERS: [(&str, &str); 9] = [
            ("ProhibitSendReceiveQuota", "100 GB (107,374,182,400 bytes)"),
            ("RecoverableItemsQuota", "30 GB (32,212,254,720 bytes)"),
            ("HiddenFromAddressListsEnabled", "True"),
            (
                "Identity",
                "EURPR04A009.PROD.OUTLOOK.COM/Microsoft Exchange Hosted Organizations/contoso.example/Böse & Söhne",
            ),
            ("UseDatabaseQuotaDefaults", "False"),
            ("ForwardingSmtpAddress", "smtp:outside@fabrikam.example"),
            ("SubjectContainsWords", "invoice;rechnung;請求書"),
            ("DomainController", ""),
            ("Force", "True"),
        ];
        let operation = *self.random.pick(&CMDLETS);
        let user = "NT AUTHORITY\\SYSTEM (Microsoft.Exchange.ServiceHost)";
        let mut fields = self.common(1, "Exchange", operation, user);
        fields.push((
            "ObjectId",
            format!(
                "EURPR04A009.PROD.OUTLOOK.COM/Microsoft Exchange Hosted Organizations/{}/{GUID}",
                self.domain
            )
            .into(),
        ));
        fields.push(("AppId", "".into()));
        fields.push(("ClientAppId", "".into()));
        fields.push(("ExternalAccess", self.random.chance(50).into()));
        fields.push(("OrganizationName", self.domain.into()));
        fields.push(("OriginatingServer", "DB6PR04MB3206 (15.20.4129.032)".into()));
        // One in fifty is as large as the largest that were measured.
        let count = if self.random.chance(2) {
            90
        } else {
            3 + self.random.below(8)
        };
        let parameters = (0..count).map(|_| {
            let (name, value) = *self.random.pick(&PARAMETERS);
            Json::from(vec![("Name", name.into()), ("Value", value.into())])
        });
        fields.push(("Parameters", Json::List(parameters.collect())));
        (fields.into(), 1)
    }

    pub(super) fn mail_items_accessed(&mut self) -> (Json, u32) {
        let (login, _) = *self.random.pick(&PEOPLE);
        let mut fields = self.common(
            50,
            "Exchange",
            "MailItemsAccessed",
            &format!("{login}@{}", self.domain),
        );
        fields.push(("ClientIPAddress", self.address().into()));
        fields.push(("ClientInfoString", "Client=OWA;Action=ViaProxy".into()));
        fields.push(("InternalLogonType", 0.into()));
        fields.push(("LogonType", (self.random.below(3) as i64).into()));
        fields.push(("MailboxGuid", GUID.into()));
        fields.push(("MailboxOwnerUPN", format!("{login}@{}", self.domain).into()));
        fields.push((
            "MailboxOwnerSid",
            format!("S-1-5-21-2147483647-{DIGITS}-918273645-1146").into(),
        ));
        fields.push(("SessionId", GUID.into()));
        let access = Json::from(vec![
            Json::from(vec![
                ("Name", "MailAccessType".into()),
                ("Value", "Bind".into()),
            ]),
            Json::from(vec![
                ("Name", "IsThrottled".into()),
                ("Value", "False".into()),
            ]),
        ]);
        fields.push(("OperationProperties", access));
        let folders = (0..1 + self.random.below(3)).map(|_| {
            let items = (0..1 + self.random.below(3)).map(|_| {
                Json::from(vec![(
                    "InternetMessageId",
                    format!("<{HEX}.{DIGITS}@PROD.OUTLOOK.COM>").into(),
                )])
            });
            let items = Json::List(items.collect());
            Json::from(vec![
                ("FolderItems", items),
                ("Id", format!("LgAAAA{HEX}AQ").into()),
                ("Path", "\\Inbox\\Zürich".into()),
            ])
        });
        fields.push(("Folders", Json::List(folders.collect())));
        fields.push(("OperationCount", (1 + self.random.below(9) as i64).into()));
        (fields.into(), 50)
    }

    pub(super) fn mailbox(&mut self) -> (Json, u32) {
        let (login, name) = *self.random.pick(&PEOPLE);
        let record_type = if self.random.chance(50) { 2 } else { 3 };
        const OPERATIONS: [&str; 5] = [
            "Send",
            "SoftDelete",
            "HardDelete",
            "MoveToDeletedItems",
            "Create",
        ];
        let operation = *self.random.pick(&OPERATIONS);
        let mut fields = self.common(
            record_type,
            "Exchange",
            operation,
            &format!("{login}@{}", self.domain),
        );
        fields.push(("ClientInfoString", "Client=MSExchangeRPC".into()));
        fields.push(("ClientProcessName", "OUTLOOK.EXE".into()));
        fields.push(("ClientVersion", "16.0.4266.1001".into()));
        fields.push(("LogonUserDisplayName", name.into()));
        fields.push(("MailboxGuid", GUID.into()));
        fields.push(("CrossMailboxOperation", false.into()));
        let items = (0..1 + self.random.below(4)).map(|_| {
            Json::from(vec![
                (
                    "Attachments",
                    format!("{} (18023b)", self.random.pick(&FILES)).into(),
                ),
                ("Id", format!("RgAAAAA{HEX}AAAJ").into()),
                (
                    "InternetMessageId",
                    format!("<{HEX}@eurprd04.prod.outlook.com>").into(),
                ),
                (
                    "ParentFolder",
                    vec![("Id", HEX.into()), ("Path", "\\Sent Items".into())].into(),
                ),
                (
                    "SizeInBytes",
                    (1000 + self.random.below(900_000) as i64).into(),
                ),
                ("Subject", "Re: Réunion – 你好 / follow-up".into()),
            ])
        });
        fields.push(("AffectedItems", Json::List(items.collect())));
        (fields.into(), record_type)
    }
}
