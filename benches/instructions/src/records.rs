//! Audit records in the shape of real ones, the same in every run: sign-ins and changes of some 1.3 KB, with ids that do
//! not compress amid names that do.

use std::fmt::Write as _;

/// So many records.
pub(crate) fn records(count: u64) -> Vec<String> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    (0..count)
        .map(|number| record(number, &mut random))
        .collect()
}

/// A blob's text.
pub(crate) fn blob(count: u64) -> Vec<u8> {
    format!("[{}]", records(count).join(",")).into_bytes()
}

fn record(number: u64, random: &mut Random) -> String {
    let mut text = format!(
        r#"{{"CreationTime":"2026-01-{:02}T{:02}:{:02}:{:02}","Id":"{}","Operation":"Update user.","OrganizationId":"0873ee4d-d342-44f2-8961-74c442a2fad2","RecordType":{},"ResultStatus":"Success","UserKey":"{:016X}@contoso.example","UserType":0,"Version":1,"Workload":"AzureActiveDirectory","ObjectId":"user{}@contoso.example","UserId":"admin@contoso.example","AzureActiveDirectoryEventType":1,"ExtendedProperties":[{{"Name":"additionalDetails","Value":"{{\"UserType\":\"Member\",\"Session\":\"{:016x}\"}}"}}],"ModifiedProperties":["#,
        1 + number % 28,
        number % 24,
        number % 60,
        number * 7 % 60,
        random.guid(),
        8 + number % 8,
        random.next(),
        number % 500,
        random.next(),
    );
    for property in 0..6 {
        let value = random.next();
        write!(
            text,
            r#"{{"Name":"Property{property}","NewValue":"[\r\n  \"{value:x} of user {number}\"\r\n]","OldValue":"[]"}},"#
        )
        .expect("a String takes any text");
    }
    write!(
        text,
        r#"{{"Name":"Included Updated Properties","NewValue":"\"Zürich — größer\"","OldValue":""}}],"Actor":[{{"ID":"admin@contoso.example","Type":5}},{{"ID":"{}","Type":2}}],"ActorContextId":"0873ee4d-d342-44f2-8961-74c442a2fad2","ClientIP":"10.{}.{}.{}"}}"#,
        random.guid(),
        number % 256,
        number / 256,
        number % 7
    )
    .expect("a String takes any text");
    text
}

/// A notification of so many blobs.
pub(crate) fn notification(count: u64) -> Vec<u8> {
    let tenant = "bf8d32d3-1c13-4487-af02-80dba2236485";
    let entry = |number| {
        let id = format!(
            "2026071520450077{number:08}$20260715204500774{number:06}$audit_exchange$Audit_Exchange$na0018"
        );
        format!(
            r#"{{"tenantId":"{tenant}","clientId":"{tenant}","contentType":"Audit.Exchange","contentId":"{id}","contentUri":"https://manage.office.com/api/v1.0/{tenant}/activity/feed/audit/{id}","contentCreated":"2026-07-15T20:45:00.774Z","contentExpiration":"2026-07-22T20:45:00.774Z"}}"#
        )
    };
    let entries: Vec<String> = (0..count).map(entry).collect();
    format!("[{}]", entries.join(",")).into_bytes()
}

/// Numbers that look random (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn guid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            high >> 32,
            high >> 16 & 0xFFFF,
            high & 0xFFF,
            low >> 52,
            low & 0xFFFF_FFFF_FFFF
        )
    }
}
