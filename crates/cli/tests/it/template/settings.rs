//! What the template is held against: the app settings that are read, who sets each, and what the program asks of Azure
//! Resource Manager.

/// The original's parameters, in its order.
pub(super) const ORIGINAL_PARAMETERS: [(&str, &str); 10] = [
    ("Name", "string"),
    ("Storage Name", "string"),
    ("Alert Logic Access Key ID", "string"),
    ("Alert Logic Secret Key", "securestring"),
    ("Alert Logic API endpoint", "string"),
    ("Alert Logic Data Residency", "string"),
    ("Office365 Content Streams", "array"),
    ("Service Principal ID", "string"),
    ("App Client ID", "string"),
    ("App Client Secret", "securestring"),
];

/// Who sets an app setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum SetBy {
    Template,
    /// Master or Updater, and the template when a parameter says so.
    TemplateOrItself,
    /// Master or Updater.
    Itself,
    /// App Service or the Functions host.
    Platform,
    /// The original collector or its template, in an app that was its; or a person.
    SomebodyElse,
}

/// Every app setting that the program, or the Functions host on its behalf, reads.
pub(super) const APP_SETTINGS: &[(&str, SetBy)] = &[
    ("FUNCTIONS_EXTENSION_VERSION", SetBy::Template),
    ("FUNCTIONS_WORKER_RUNTIME", SetBy::Template),
    ("AzureFunctionsJobHost__functionTimeout", SetBy::Template),
    ("MASTER_SCHEDULE", SetBy::Template),
    ("UPDATER_SCHEDULE", SetBy::Template),
    ("APPLICATIONINSIGHTS_CONNECTION_STRING", SetBy::Template),
    ("AzureWebJobsStorage", SetBy::Template),
    ("AzureWebJobsStorage__accountName", SetBy::Template),
    ("AzureWebJobsStorage__credential", SetBy::Template),
    ("AzureWebJobsStorage__clientId", SetBy::SomebodyElse),
    ("WEBSITE_RUN_FROM_PACKAGE", SetBy::TemplateOrItself),
    ("APP_TENANT_ID", SetBy::Template),
    ("APP_SUBSCRIPTION_ID", SetBy::Template),
    ("APP_RESOURCE_GROUP", SetBy::Template),
    ("APP_PRINCIPAL_ID", SetBy::Template),
    ("O365_CONTENT_STREAMS", SetBy::Template),
    ("CUSTOMCONNSTR_APP_CLIENT_ID", SetBy::Template),
    ("CUSTOMCONNSTR_APP_CLIENT_SECRET", SetBy::Template),
    ("CUSTOMCONNSTR_APP_AL_ACCESS_KEY_ID", SetBy::Template),
    ("CUSTOMCONNSTR_APP_AL_SECRET_KEY", SetBy::Template),
    ("CUSTOMCONNSTR_APP_AL_API_ENDPOINT", SetBy::Template),
    ("CUSTOMCONNSTR_APP_AL_RESIDENCY", SetBy::Template),
    ("O365_COLLECTOR_TENANT__0__CLOUD", SetBy::Template),
    ("O365_COLLECTOR_POLL__LOOKBACK_HOURS", SetBy::Template),
    ("O365_COLLECTOR_UPDATE__MANIFEST_URL", SetBy::Template),
    ("O365_COLLECTOR_UPDATE__PUBLIC_KEY", SetBy::Template),
    ("COLLECTOR_SOURCE_ID", SetBy::TemplateOrItself),
    ("COLLECTOR_HOST_ID", SetBy::TemplateOrItself),
    ("APP_INGEST_ENDPOINT", SetBy::Itself),
    ("APP_AZCOLLECT_ENDPOINT", SetBy::Itself),
    ("O365_COLLECTOR_WEBHOOK__AUTH_ID", SetBy::Itself),
    ("O365_COLLECTOR_PREVIOUS_PACKAGE", SetBy::Itself),
    ("WEBSITE_SITE_NAME", SetBy::Platform),
    ("WEBSITE_HOSTNAME", SetBy::Platform),
    ("IDENTITY_ENDPOINT", SetBy::Platform),
    ("IDENTITY_HEADER", SetBy::Platform),
    ("MSI_ENDPOINT", SetBy::Platform),
    ("MSI_SECRET", SetBy::Platform),
    ("FUNCTIONS_CUSTOMHANDLER_PORT", SetBy::Platform),
    ("CUSTOMCONNSTR_APP_CI_ACCESS_KEY_ID", SetBy::SomebodyElse),
    ("CUSTOMCONNSTR_APP_CI_SECRET_KEY", SetBy::SomebodyElse),
    ("O365_COLLECTOR_ID", SetBy::SomebodyElse),
    ("O365_HOST_ID", SetBy::SomebodyElse),
    ("APP_STATS_QUEUE_NAME", SetBy::SomebodyElse),
    ("APP_DL_CONTAINER_NAME", SetBy::SomebodyElse),
    ("APP_FILTER_JSON", SetBy::SomebodyElse),
    ("APP_FILTER_REGEX", SetBy::SomebodyElse),
];

/// What the program's requests to Azure Resource Manager need to be allowed.
pub(super) const ARM_ACTIONS: [&str; 5] = [
    "Microsoft.Web/sites/read",
    "Microsoft.Web/sites/config/list/action",
    "Microsoft.Web/sites/config/write",
    "Microsoft.Web/sites/sync/action",
    "Microsoft.Web/sites/syncfunctiontriggers/action",
];
