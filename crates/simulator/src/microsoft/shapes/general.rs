//! Records of the other workloads: Teams, alerts, mail threats, Copilot.

use super::{FILES, Maker, PEOPLE, texts};
use crate::microsoft::json::Json;
use crate::microsoft::template::{DIGITS, GUID, HEX, PRECISE_TIME};

impl Maker<'_> {
    pub(super) fn teams(&mut self) -> (Json, u32) {
        let (login, _) = *self.random.pick(&PEOPLE);
        const OPERATIONS: [&str; 5] = [
            "MemberAdded",
            "ChannelAdded",
            "MessageSent",
            "TeamsSessionStarted",
            "BotAddedToTeam",
        ];
        let operation = *self.random.pick(&OPERATIONS);
        let mut fields = self.common(
            25,
            "MicrosoftTeams",
            operation,
            &format!("{login}@{}", self.domain),
        );
        fields.push(("CommunicationType", "Team".into()));
        fields.push(("TeamName", "Projekt Ährenfeld 🚀".into()));
        fields.push(("TeamGuid", format!("19:{HEX}@thread.tacv2").into()));
        fields.push(("ChannelGuid", format!("19:{HEX}@thread.tacv2").into()));
        fields.push(("ChannelType", "Standard".into()));
        fields.push(("MessageId", format!("17{DIGITS}123").into()));
        let members = (0..1 + self.random.below(6)).map(|_| {
            let (login, name) = *self.random.pick(&PEOPLE);
            Json::from(vec![
                ("DisplayName", name.into()),
                ("Role", (self.random.below(3) as i64).into()),
                ("UPN", format!("{login}@{}", self.domain).into()),
            ])
        });
        fields.push(("Members", Json::List(members.collect())));
        let extra = (0..2).map(|_| {
            Json::from(vec![
                ("Key", "TimeZone".into()),
                ("Value", "Europe/Berlin".into()),
            ])
        });
        fields.push(("ExtraProperties", Json::List(extra.collect())));
        (fields.into(), 25)
    }

    pub(super) fn alert(&mut self) -> (Json, u32) {
        const OPERATIONS: [&str; 3] = ["AlertTriggered", "AlertEntityGenerated", "AlertUpdated"];
        let operation = *self.random.pick(&OPERATIONS);
        let mut fields = self.common(
            40,
            "SecurityComplianceCenter",
            operation,
            "SecurityComplianceAlerts",
        );
        fields.push(("AlertId", GUID.into()));
        fields.push(("AlertLinks", Json::List(Vec::new())));
        fields.push(("AlertType", "System".into()));
        fields.push(("Category", "ThreatManagement".into()));
        fields.push(("Comments", "New alert".into()));
        // One alert's text was seen with a key twice, so this one has it too.
        let data = format!(
            "{{\"etype\":\"User\",\"eid\":\"{}@{}\",\"tid\":\"{}\",\"ts\":\"{PRECISE_TIME}\",\"te\":\"{PRECISE_TIME}\",\"op\":\"Mail\",\"tdc\":\"1\",\"op\":\"Mail\",\"sev\":\"Low\",\"ail\":\"https://security.example/alerts/{GUID}\"}}",
            self.random.pick(&PEOPLE).0,
            self.domain,
            self.tenant_id
        );
        fields.push(("Data", data.into()));
        fields.push(("Name", "Creation of forwarding/redirect rule".into()));
        fields.push(("PolicyId", GUID.into()));
        fields.push(("Severity", "Low".into()));
        fields.push(("Source", "Office 365 Security & Compliance".into()));
        fields.push(("Status", "Active".into()));
        (fields.into(), 40)
    }

    pub(super) fn threat(&mut self) -> (Json, u32) {
        let mut fields = self.common(28, "ThreatIntelligence", "TIMailData", "ThreatIntel");
        fields.push(("ObjectId", GUID.into()));
        let attachments = (0..self.random.below(3)).map(|_| {
            Json::from(vec![
                ("FileName", (*self.random.pick(&FILES)).into()),
                ("FileType", "zip;exe".into()),
                ("FileVerdict", Json::from(-1)),
                ("MalwareFamily", "Trojan_Gen".into()),
                ("SHA256", format!("{HEX}{HEX}{HEX}{HEX}").into()),
            ])
        });
        fields.push(("AttachmentData", Json::List(attachments.collect())));
        fields.push(("DetectionMethod", "URL malicious reputation".into()));
        fields.push(("DetectionType", "Inline".into()));
        fields.push((
            "EventDeepLink",
            format!("https://security.example/threatexplorer?messageParams={GUID},{GUID}").into(),
        ));
        fields.push((
            "InternetMessageId",
            format!("<{HEX}@mail.fabrikam.example>").into(),
        ));
        fields.push(("MessageTime", PRECISE_TIME.into()));
        fields.push(("NetworkMessageId", GUID.into()));
        fields.push(("P1Sender", "bounce@fabrikam.example".into()));
        fields.push(("P2Sender", "\"Rechnung\" <ceo@fabrikam.example>".into()));
        fields.push(("Policy", "Phish".into()));
        fields.push(("PolicyAction", "MoveToJmf".into()));
        fields.push((
            "Recipients",
            vec![Json::from(format!(
                "{}@{}",
                self.random.pick(&PEOPLE).0,
                self.domain
            ))]
            .into(),
        ));
        fields.push(("SenderIp", self.address().into()));
        fields.push(("Subject", "Tax refund – ¡última oportunidad!".into()));
        fields.push((
            "ThreatsAndDetectionTech",
            texts(&[
                "Phish: [URL malicious reputation]",
                "Spam: [Fingerprint matching]",
            ]),
        ));
        fields.push(("Verdict", "Phish".into()));
        (fields.into(), 28)
    }

    pub(super) fn copilot(&mut self) -> (Json, u32) {
        let (login, _) = *self.random.pick(&PEOPLE);
        let mut fields = self.common(
            261,
            "Copilot",
            "CopilotInteraction",
            &format!("{login}@{}", self.domain),
        );
        let resources = (0..1 + self.random.below(4)).map(|_| {
            Json::from(vec![
                ("Action", "Read".into()),
                (
                    "Id",
                    format!("https://contoso.sharepoint.example/:w:/r/{HEX}").into(),
                ),
                ("Name", (*self.random.pick(&FILES)).into()),
                (
                    "SiteUrl",
                    "https://contoso.sharepoint.example/sites/plan".into(),
                ),
                ("Type", "docx".into()),
                ("listItemUniqueId", GUID.into()),
            ])
        });
        let resources = Json::List(resources.collect());
        let messages = Json::from(vec![
            Json::from(vec![
                ("Id", format!("17{DIGITS}001").into()),
                ("isPrompt", true.into()),
            ]),
            Json::from(vec![
                ("Id", format!("17{DIGITS}002").into()),
                ("isPrompt", false.into()),
            ]),
        ]);
        let model = vec![
            ("ModelName", "GPT-5".into()),
            ("ModelProviderName", "OpenAI".into()),
        ];
        let data = vec![
            ("AISystemPlugin", Json::List(Vec::new())),
            ("AccessedResources", resources),
            ("AppHost", "Word".into()),
            (
                "Contexts",
                vec![Json::from(vec![
                    (
                        "Id",
                        format!("https://contoso.sharepoint.example/{GUID}").into(),
                    ),
                    ("Type", "docx".into()),
                ])]
                .into(),
            ),
            ("Messages", messages),
            ("ModelTransparencyDetails", vec![Json::from(model)].into()),
            ("ThreadId", format!("19:{HEX}@thread.v2").into()),
        ];
        fields.push(("CopilotEventData", data.into()));
        fields.push(("ClientRegion", "de".into()));
        fields.push(("CopilotLogVersion", "1.0.0.0".into()));
        (fields.into(), 261)
    }
}
