//! Records of SharePoint and OneDrive: files and sharing.

use super::{FILES, Maker, PEOPLE, access_context};
use crate::microsoft::json::Json;
use crate::microsoft::template::GUID;

impl Maker<'_> {
    pub(super) fn file(&mut self) -> (Json, u32) {
        let (login, _) = *self.random.pick(&PEOPLE);
        const OPERATIONS: [&str; 6] = [
            "FileAccessed",
            "FileModified",
            "FileDownloaded",
            "FileUploaded",
            "FilePreviewed",
            "FileSyncUploadedFull",
        ];
        let operation = *self.random.pick(&OPERATIONS);
        let one_drive = self.random.chance(50);
        let workload = if one_drive { "OneDrive" } else { "SharePoint" };
        let file = *self.random.pick(&FILES);
        let mut fields = self.common(6, workload, operation, &format!("{login}@{}", self.domain));
        fields.push((
            "ObjectId",
            format!(
                "https://contoso.sharepoint.example/personal/{login}/Documents/Ünterlagen/{file}"
            )
            .into(),
        ));
        fields.push(("CorrelationId", GUID.into()));
        fields.push(("EventSource", "SharePoint".into()));
        fields.push(("ItemType", "File".into()));
        fields.push(("ListId", GUID.into()));
        fields.push(("ListItemUniqueId", GUID.into()));
        fields.push(("Site", GUID.into()));
        fields.push((
            "UserAgent",
            "Microsoft SkyDriveSync 26.121.0617.0001 ship; Windows NT 10.0 (19045)".into(),
        ));
        fields.push(("WebId", GUID.into()));
        fields.push(("HighPriorityMediaProcessing", false.into()));
        fields.push((
            "SourceFileExtension",
            file.rsplit('.').next().unwrap_or_default().into(),
        ));
        fields.push((
            "SiteUrl",
            format!("https://contoso.sharepoint.example/personal/{login}/").into(),
        ));
        fields.push(("SourceFileName", file.into()));
        fields.push(("SourceRelativeUrl", "Documents/Ünterlagen".into()));
        fields.push(("FileSizeBytes", (self.random.below(1 << 40) as i64).into()));
        fields.push(("listItemUniqueId", GUID.into()));
        fields.push(("AppAccessContext", access_context()));
        (fields.into(), 6)
    }

    pub(super) fn sharing(&mut self) -> (Json, u32) {
        let (login, _) = *self.random.pick(&PEOPLE);
        const OPERATIONS: [&str; 4] = [
            "SharingSet",
            "AnonymousLinkCreated",
            "AddedToSecureLink",
            "SharingInheritanceBroken",
        ];
        let operation = *self.random.pick(&OPERATIONS);
        let mut fields = self.common(
            14,
            "SharePoint",
            operation,
            &format!("{login}@{}", self.domain),
        );
        fields.push((
            "ObjectId",
            "https://contoso.sharepoint.example/sites/plan/Freigegebene Dokumente".into(),
        ));
        fields.push(("CorrelationId", GUID.into()));
        fields.push(("EventSource", "SharePoint".into()));
        fields.push(("ItemType", "Folder".into()));
        fields.push(("EventData", "<Permissions granted>Read</Permissions granted><Sharing link scope>Anyone</Sharing link scope>".into()));
        fields.push(("TargetUserOrGroupType", "SecurityGroup".into()));
        fields.push((
            "TargetUserOrGroupName",
            format!("SharingLinks.{GUID}.AnonymousView.{GUID}").into(),
        ));
        fields.push(("UniqueSharingId", GUID.into()));
        fields.push((
            "SiteUrl",
            "https://contoso.sharepoint.example/sites/plan".into(),
        ));
        fields.push(("AppAccessContext", access_context()));
        (fields.into(), 14)
    }
}
