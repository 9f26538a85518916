//! What the template is held against: the app settings that are read, who sets each, and what the program asks of Azure
//! Resource Manager.

use std::collections::BTreeSet;
use std::fs;

use activity_api::Origin;
use azure::resource_manager::{Settings, SiteApi};

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

/// Who reads an app setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ReadBy {
    /// The program, when it makes its configuration of the app settings.
    Configuration,
    /// The program, elsewhere.
    Program,
    /// App Service or the Functions host.
    Host,
    /// Nobody any more: it is known so that it can be spoken of.
    Nobody,
}

/// Every app setting that the program, or the Functions host on its behalf, reads.
pub(super) const APP_SETTINGS: &[(&str, SetBy, ReadBy)] = &[
    ("FUNCTIONS_EXTENSION_VERSION", SetBy::Template, ReadBy::Host),
    ("FUNCTIONS_WORKER_RUNTIME", SetBy::Template, ReadBy::Host),
    (
        "AzureFunctionsJobHost__functionTimeout",
        SetBy::Template,
        ReadBy::Program,
    ),
    ("MASTER_SCHEDULE", SetBy::Template, ReadBy::Host),
    ("UPDATER_SCHEDULE", SetBy::Template, ReadBy::Host),
    (
        "APPLICATIONINSIGHTS_CONNECTION_STRING",
        SetBy::Template,
        ReadBy::Host,
    ),
    (
        "AzureWebJobsStorage",
        SetBy::Template,
        ReadBy::Configuration,
    ),
    (
        "AzureWebJobsStorage__accountName",
        SetBy::Template,
        ReadBy::Configuration,
    ),
    (
        "AzureWebJobsStorage__credential",
        SetBy::Template,
        ReadBy::Host,
    ),
    (
        "AzureWebJobsStorage__clientId",
        SetBy::SomebodyElse,
        ReadBy::Configuration,
    ),
    (
        "AzureWebJobsStorage__tableServiceUri",
        SetBy::SomebodyElse,
        ReadBy::Configuration,
    ),
    (
        "AzureWebJobsStorage__queueServiceUri",
        SetBy::SomebodyElse,
        ReadBy::Configuration,
    ),
    (
        "AzureWebJobsStorage__blobServiceUri",
        SetBy::SomebodyElse,
        ReadBy::Configuration,
    ),
    (
        "WEBSITE_RUN_FROM_PACKAGE",
        SetBy::TemplateOrItself,
        ReadBy::Program,
    ),
    ("APP_TENANT_ID", SetBy::Template, ReadBy::Configuration),
    (
        "APP_SUBSCRIPTION_ID",
        SetBy::Template,
        ReadBy::Configuration,
    ),
    ("APP_RESOURCE_GROUP", SetBy::Template, ReadBy::Configuration),
    ("APP_PRINCIPAL_ID", SetBy::Template, ReadBy::Configuration),
    (
        "O365_CONTENT_STREAMS",
        SetBy::Template,
        ReadBy::Configuration,
    ),
    (
        "CUSTOMCONNSTR_APP_CLIENT_ID",
        SetBy::Template,
        ReadBy::Configuration,
    ),
    (
        "CUSTOMCONNSTR_APP_CLIENT_SECRET",
        SetBy::Template,
        ReadBy::Configuration,
    ),
    (
        "CUSTOMCONNSTR_APP_AL_ACCESS_KEY_ID",
        SetBy::Template,
        ReadBy::Configuration,
    ),
    (
        "CUSTOMCONNSTR_APP_AL_SECRET_KEY",
        SetBy::Template,
        ReadBy::Configuration,
    ),
    (
        "CUSTOMCONNSTR_APP_AL_API_ENDPOINT",
        SetBy::Template,
        ReadBy::Configuration,
    ),
    (
        "CUSTOMCONNSTR_APP_AL_RESIDENCY",
        SetBy::Template,
        ReadBy::Configuration,
    ),
    (
        "O365_COLLECTOR_TENANT__0__CLOUD",
        SetBy::Template,
        ReadBy::Configuration,
    ),
    (
        "O365_COLLECTOR_POLL__LOOKBACK_HOURS",
        SetBy::Template,
        ReadBy::Configuration,
    ),
    (
        "O365_COLLECTOR_UPDATE__MANIFEST_URL",
        SetBy::Template,
        ReadBy::Configuration,
    ),
    (
        "O365_COLLECTOR_UPDATE__PUBLIC_KEY",
        SetBy::Template,
        ReadBy::Configuration,
    ),
    (
        "COLLECTOR_SOURCE_ID",
        SetBy::TemplateOrItself,
        ReadBy::Configuration,
    ),
    (
        "COLLECTOR_HOST_ID",
        SetBy::TemplateOrItself,
        ReadBy::Configuration,
    ),
    ("APP_INGEST_ENDPOINT", SetBy::Itself, ReadBy::Configuration),
    (
        "APP_AZCOLLECT_ENDPOINT",
        SetBy::Itself,
        ReadBy::Configuration,
    ),
    (
        "O365_COLLECTOR_WEBHOOK__AUTH_ID",
        SetBy::Itself,
        ReadBy::Configuration,
    ),
    (
        "O365_COLLECTOR_PREVIOUS_PACKAGE",
        SetBy::Itself,
        ReadBy::Program,
    ),
    ("WEBSITE_SITE_NAME", SetBy::Platform, ReadBy::Configuration),
    ("WEBSITE_HOSTNAME", SetBy::Platform, ReadBy::Configuration),
    ("IDENTITY_ENDPOINT", SetBy::Platform, ReadBy::Configuration),
    ("IDENTITY_HEADER", SetBy::Platform, ReadBy::Program),
    ("MSI_ENDPOINT", SetBy::Platform, ReadBy::Configuration),
    ("MSI_SECRET", SetBy::Platform, ReadBy::Program),
    (
        "FUNCTIONS_CUSTOMHANDLER_PORT",
        SetBy::Platform,
        ReadBy::Program,
    ),
    (
        "CUSTOMCONNSTR_APP_CI_ACCESS_KEY_ID",
        SetBy::SomebodyElse,
        ReadBy::Configuration,
    ),
    (
        "CUSTOMCONNSTR_APP_CI_SECRET_KEY",
        SetBy::SomebodyElse,
        ReadBy::Configuration,
    ),
    (
        "O365_COLLECTOR_ID",
        SetBy::SomebodyElse,
        ReadBy::Configuration,
    ),
    ("O365_HOST_ID", SetBy::SomebodyElse, ReadBy::Configuration),
    ("APP_STATS_QUEUE_NAME", SetBy::SomebodyElse, ReadBy::Nobody),
    ("APP_DL_CONTAINER_NAME", SetBy::SomebodyElse, ReadBy::Nobody),
    (
        "APP_FILTER_JSON",
        SetBy::SomebodyElse,
        ReadBy::Configuration,
    ),
    (
        "APP_FILTER_REGEX",
        SetBy::SomebodyElse,
        ReadBy::Configuration,
    ),
];

/// What the program's requests to Azure Resource Manager need to be allowed: read off the requests themselves.
pub(super) fn arm_actions() -> BTreeSet<&'static str> {
    let origin: Origin = "https://management.example.net".parse().unwrap();
    let api = SiteApi::new(&origin, "s", "g", "site").unwrap();
    let requests = [
        api.get_site(),
        api.list_settings(),
        api.put_settings(&Settings::default()),
        api.sync_repository(),
        api.sync_triggers(),
    ];
    let code = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../azure/src/resource_manager.rs"
    );
    let code = fs::read_to_string(code).unwrap();
    let makes_one = |line: &&str| line.contains("pub fn") && line.contains("-> Request<Bytes>");
    assert_eq!(
        code.lines().filter(makes_one).count(),
        requests.len(),
        "SiteApi has a request that is not looked at here"
    );
    let base = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/site";
    let action = |request: &http::Request<_>| {
        let tail = request.uri().path().strip_prefix(base).unwrap();
        // Azure names a right after the kind of thing and what is done to it, not after the path.
        match (request.method().as_str(), tail) {
            ("GET", "") => "Microsoft.Web/sites/read",
            ("POST", "/config/appsettings/list") => "Microsoft.Web/sites/config/list/action",
            ("PUT", "/config/appsettings") => "Microsoft.Web/sites/config/write",
            ("POST", "/sync") => "Microsoft.Web/sites/sync/action",
            ("POST", "/syncfunctiontriggers") => "Microsoft.Web/sites/syncfunctiontriggers/action",
            other => panic!("which right does {other:?} need?"),
        }
    };
    requests.iter().map(action).collect()
}
