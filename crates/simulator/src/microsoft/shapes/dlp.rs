//! Records of data loss prevention.

use super::{Maker, PEOPLE, texts};
use crate::microsoft::json::Json;
use crate::microsoft::template::{GUID, HEX, PRECISE_TIME};

impl Maker<'_> {
    pub(super) fn dlp(&mut self) -> (Json, u32) {
        let record_type = if self.random.chance(50) { 11 } else { 13 };
        let workload = if record_type == 11 {
            "SharePoint"
        } else {
            "Exchange"
        };
        let mut fields = self.common(record_type, workload, "DlpRuleMatch", "DlpAgent");
        fields.push(("ObjectId", GUID.into()));
        fields.push(("IncidentId", GUID.into()));
        fields.push(("SensitiveInfoDetectionIsIncluded", true.into()));
        let types = (0..1 + self.random.below(3)).map(|_| {
            Json::from(vec![
                ("Confidence", 85.into()),
                ("Count", (1 + self.random.below(40) as i64).into()),
                (
                    "SensitiveType",
                    "50842eb7-edc8-4019-85dd-5a5c1f2bb085".into(),
                ),
                ("SensitiveInformationTypeName", "Credit Card Number".into()),
                ("UniqueCount", 1.into()),
            ])
        });
        let types = Json::List(types.collect());
        let rule = vec![
            ("Actions", texts(&["BlockAccess", "NotifyUser"])),
            (
                "ConditionsMatched",
                vec![("SensitiveInformation", types)].into(),
            ),
            ("RuleId", GUID.into()),
            ("RuleMode", "Enable".into()),
            ("RuleName", "Hohe Anzahl – Kreditkarten".into()),
            ("Severity", "High".into()),
        ];
        let policy = vec![
            ("PolicyId", GUID.into()),
            ("PolicyName", "PCI-DSS".into()),
            ("Rules", vec![Json::from(rule)].into()),
        ];
        fields.push(("PolicyDetails", vec![Json::from(policy)].into()));
        let (login, _) = *self.random.pick(&PEOPLE);
        let about = if record_type == 11 {
            let meta = vec![
                ("From", format!("{login}@{}", self.domain).into()),
                ("itemCreationTime", PRECISE_TIME.into()),
                (
                    "FilePathUrl",
                    "https://contoso.sharepoint.example/sites/plan/Zahlungen.xlsx".into(),
                ),
                ("SiteCollectionGuid", GUID.into()),
            ];
            ("SharePointMetaData", Json::from(meta))
        } else {
            let meta = vec![
                ("From", format!("{login}@{}", self.domain).into()),
                ("MessageID", format!("<{HEX}@{}>", self.domain).into()),
                ("RecipientCount", 1.into()),
                ("Subject", "FW: karta płatnicza".into()),
                ("To", vec![Json::from("x@fabrikam.example")].into()),
            ];
            ("ExchangeMetaData", Json::from(meta))
        };
        fields.push(about);
        (fields.into(), record_type)
    }
}
