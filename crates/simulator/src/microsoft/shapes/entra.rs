//! Records of the directory: sign-ins and changes.

use super::{Maker, PEOPLE, actor, pair};
use crate::microsoft::json::Json;
use crate::microsoft::template::GUID;

impl Maker<'_> {
    pub(super) fn logon(&mut self) -> (Json, u32) {
        let (login, _) = *self.random.pick(&PEOPLE);
        let failed = self.random.chance(30);
        let operation = if failed {
            "UserLoginFailed"
        } else {
            "UserLoggedIn"
        };
        let mut fields = self.common(
            15,
            "AzureActiveDirectory",
            operation,
            &format!("{login}@{}", self.domain),
        );
        fields.push(("ObjectId", "00000002-0000-0ff1-ce00-000000000000".into()));
        fields.push(("AzureActiveDirectoryEventType", 1.into()));
        let extended = vec![
            pair(
                "ResultStatusDetail",
                if failed { "Failed" } else { "Redirect" },
            ),
            pair(
                "UserAgent",
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
            ),
            pair("RequestType", "OAuth2:Authorize"),
        ];
        fields.push(("ExtendedProperties", extended.into()));
        fields.push(("ModifiedProperties", Json::List(Vec::new())));
        fields.push((
            "Actor",
            Json::List(vec![
                actor(GUID, 0),
                actor(&format!("{login}@{}", self.domain), 5),
            ]),
        ));
        fields.push(("ActorContextId", self.tenant_id.into()));
        fields.push(("ActorIpAddress", self.address().into()));
        fields.push(("InterSystemsId", GUID.into()));
        fields.push(("IntraSystemId", GUID.into()));
        fields.push(("SupportTicketId", "".into()));
        fields.push((
            "Target",
            Json::List(vec![actor("00000002-0000-0ff1-ce00-000000000000", 0)]),
        ));
        fields.push(("TargetContextId", self.tenant_id.into()));
        fields.push(("ApplicationId", GUID.into()));
        fields.push((
            "DeviceProperties",
            vec![
                pair("OS", "Windows 10"),
                pair("BrowserType", "Chrome"),
                pair("SessionId", GUID),
            ]
            .into(),
        ));
        if failed {
            fields.push(("ErrorNumber", "50126".into()));
            fields.push(("LogonError", "InvalidUserNameOrPassword".into()));
        } else {
            fields.push(("ErrorNumber", "0".into()));
        }
        (fields.into(), 15)
    }

    pub(super) fn directory(&mut self) -> (Json, u32) {
        let (login, name) = *self.random.pick(&PEOPLE);
        const OPERATIONS: [&str; 5] = [
            "Add member to group.",
            "Update user.",
            "Add app role assignment to service principal.",
            "Reset user password.",
            "Consent to application.",
        ];
        let operation = *self.random.pick(&OPERATIONS);
        let mut fields = self.common(
            8,
            "AzureActiveDirectory",
            operation,
            &format!("{login}@{}", self.domain),
        );
        fields.push(("ObjectId", format!("{login}@{}", self.domain).into()));
        fields.push(("AzureActiveDirectoryEventType", 1.into()));
        // JSON inside a string, as this workload has it.
        let details = Json::from(vec![
            ("User-Agent", "EvoSTS".into()),
            ("correlationId", GUID.into()),
            ("name", name.into()),
        ])
        .write(false);
        fields.push((
            "ExtendedProperties",
            vec![
                pair("additionalDetails", &details),
                pair("extendedAuditEventCategory", "User"),
            ]
            .into(),
        ));
        let modified = (0..1 + self.random.below(4)).map(|_| {
            Json::from(vec![
                ("Name", "StrongAuthenticationMethod".into()),
                (
                    "NewValue",
                    "[\r\n  {\r\n    \"MethodType\": 6,\r\n    \"Default\": true\r\n  }\r\n]"
                        .into(),
                ),
                ("OldValue", "[]".into()),
            ])
        });
        fields.push(("ModifiedProperties", Json::List(modified.collect())));
        fields.push((
            "Actor",
            Json::List(vec![
                actor(&format!("ServicePrincipal_{GUID}"), 2),
                actor(GUID, 2),
                actor(name, 1),
            ]),
        ));
        fields.push(("ActorContextId", self.tenant_id.into()));
        fields.push(("InterSystemsId", GUID.into()));
        fields.push(("IntraSystemId", GUID.into()));
        fields.push(("SupportTicketId", "".into()));
        fields.push((
            "Target",
            Json::List(vec![
                actor(&format!("User_{GUID}"), 2),
                actor(GUID, 2),
                actor(login, 5),
            ]),
        ));
        fields.push(("TargetContextId", self.tenant_id.into()));
        (fields.into(), 8)
    }
}
