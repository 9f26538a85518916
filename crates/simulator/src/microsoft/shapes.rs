//! The shapes of generated records: for each content type, records of its workloads as the documents and captured records
//! have them, with invented people, files and addresses.

mod dlp;
mod entra;
mod exchange;
mod general;
mod sharepoint;

use super::json::Json;
use super::template::{CREATION_TIME, GUID, HEX, ID, PRECISE_TIME};
use crate::ContentType;
use crate::random::Random;

type Fields = Vec<(&'static str, Json)>;

const PEOPLE: [(&str, &str); 10] = [
    ("adele.vance", "Adele Vance"),
    ("bo.ångström", "Bo Ångström"),
    ("chen.wei", "陈伟"),
    ("diego.munoz", "Diego Muñoz"),
    ("eva.novakova", "Eva Nováková"),
    ("farid.haddad", "فريد حداد"),
    ("grace.okafor", "Grace O'Kafor"),
    ("hiroshi.sato", "佐藤 宏"),
    ("irina.petrova", "Ирина Петрова"),
    ("jo.smith", "Jo \"JJ\" Smith 🙂"),
];

const FILES: [&str; 8] = [
    "Quarterly report.xlsx",
    "Überblick Maßnahmen.docx",
    "contract_v2 (final) [signed].pdf",
    "会議メモ.docx",
    "photo 2026-07-15.jpg",
    "backup\u{2013}keys.kdbx",
    "Plan & budget's \"draft\".pptx",
    "notes.one",
];

/// Makes one record's shape for a content type, with marks where each record gets values of its own.
pub(crate) fn make(content_type: ContentType, tenant_id: &str, random: &mut Random) -> (Json, u32) {
    let domain = "contoso.example";
    let mut maker = Maker {
        random,
        tenant_id,
        domain,
    };
    let roll = maker.random.below(100);
    match content_type {
        ContentType::Exchange if roll < 60 => maker.exchange_admin(),
        ContentType::Exchange if roll < 85 => maker.mail_items_accessed(),
        ContentType::Exchange => maker.mailbox(),
        ContentType::AzureActiveDirectory if roll < 65 => maker.logon(),
        ContentType::AzureActiveDirectory => maker.directory(),
        ContentType::SharePoint if roll < 75 => maker.file(),
        ContentType::SharePoint => maker.sharing(),
        ContentType::General if roll < 45 => maker.teams(),
        ContentType::General if roll < 65 => maker.alert(),
        ContentType::General if roll < 80 => maker.threat(),
        ContentType::General => maker.copilot(),
        ContentType::Dlp => maker.dlp(),
    }
}

struct Maker<'a> {
    random: &'a mut Random,
    tenant_id: &'a str,
    domain: &'a str,
}

impl Maker<'_> {
    /// The fields of every record. Their order differs between workloads, so it differs here.
    fn common(&mut self, record_type: u32, workload: &str, operation: &str, user: &str) -> Fields {
        let mut fields: Fields = vec![
            ("CreationTime", CREATION_TIME.into()),
            ("Id", ID.into()),
            ("Operation", operation.into()),
            ("OrganizationId", self.tenant_id.into()),
            ("RecordType", i64::from(record_type).into()),
        ];
        const STATUSES: [&str; 8] = [
            "True",
            "TRUE",
            "False",
            "Success",
            "Succeeded",
            "PartiallySucceeded",
            "Failed",
            "Failure",
        ];
        if self.random.chance(70) {
            fields.push(("ResultStatus", (*self.random.pick(&STATUSES)).into()));
        }
        fields.push((
            "UserKey",
            format!("1003{}", self.random.hex(12).to_uppercase()).into(),
        ));
        fields.push(("UserType", (self.random.below(7) as i64).into()));
        fields.push(("Version", 1.into()));
        fields.push(("Workload", workload.into()));
        match self.random.below(8) {
            0 => {}
            1 => fields.push(("ClientIP", Json::Null)),
            _ => fields.push(("ClientIP", self.address().into())),
        }
        fields.push(("UserId", user.into()));
        if self.random.chance(25) {
            let turn = self.random.below(fields.len() as u64) as usize;
            fields.rotate_left(turn);
        }
        fields
    }

    /// A client's address in one of the forms that were seen.
    fn address(&mut self) -> String {
        let last = 1 + self.random.below(250);
        match self.random.below(7) {
            0 => format!("203.0.113.{last}:4{}", 1000 + last),
            1 => format!("[198.51.100.{last}]:123"),
            2 => format!("::ffff:203.0.113.{last}"),
            3 => format!("[2001:db8::{last:x}]:443"),
            4 => format!("2001:db8:85a3::8a2e:370:{last:x}"),
            _ => format!("198.51.100.{last}"),
        }
    }
}

fn texts(items: &[&str]) -> Json {
    Json::List(items.iter().map(|&item| item.into()).collect())
}

fn pair(name: &str, value: &str) -> Json {
    vec![("Name", name.into()), ("Value", value.into())].into()
}

fn actor(id: &str, kind: i64) -> Json {
    vec![("ID", id.into()), ("Type", kind.into())].into()
}

fn access_context() -> Json {
    vec![
        ("AADSessionId", GUID.into()),
        ("CorrelationId", GUID.into()),
        ("IssuedAtTime", PRECISE_TIME.into()),
        ("UniqueTokenId", HEX.into()),
    ]
    .into()
}
