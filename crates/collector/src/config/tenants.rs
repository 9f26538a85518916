//! `[[tenant]]` and `[microsoft]`: whose records are collected, and from which hosts.

use activity_api::{
    ApplicationCertificate, Cloud, ContentType, InvalidCertificate, Origin, PublisherId, TenantId,
};
use azure::identity::ManagedIdentity;

use super::keys::Kind;
use super::reader::Section;
use super::{Credential, TenantConfig};
use crate::token::read_assertion;

const CLOUDS: [&str; 5] = [
    Cloud::Commercial.as_str(),
    Cloud::Gcc.as_str(),
    Cloud::GccHigh.as_str(),
    Cloud::Dod.as_str(),
    Cloud::China.as_str(),
];

const CONTENT_TYPES: [&str; 5] = [
    ContentType::AzureActiveDirectory.as_str(),
    ContentType::Exchange.as_str(),
    ContentType::SharePoint.as_str(),
    ContentType::General.as_str(),
    ContentType::Dlp.as_str(),
];

pub(super) fn read(root: &mut Section<'_, '_>) -> Vec<TenantConfig> {
    let mut seen: Vec<Option<TenantId>> = Vec::new();
    let mut tenants = root.tables(
        "tenant",
        "A tenant whose records are collected.",
        |section| {
            let id = section
                .guid("id", "The tenant's id (directory id), a GUID.")
                .required();
            if let Some(first) = id.and_then(|id| seen.iter().position(|seen| *seen == Some(id))) {
                section.incomplete(
                    "id",
                    format!("is the id of tenant[{first}] too: write each tenant once"),
                );
            }
            seen.push(id);
            read_tenant(section, id)
        },
    );
    root.table(
        "microsoft",
        "Microsoft's hosts, only to override those of a tenant's cloud (tests, proxies).",
        |section| {
            let login = read_origin(section, "login", "Where tokens come from.");
            let activity = read_origin(
                section,
                "activity",
                "The Office 365 Management Activity API.",
            );
            let resource_manager =
                read_origin(section, "resource_manager", "Azure Resource Manager.");
            for tenant in &mut tenants {
                let hosts = &mut tenant.hosts;
                for (host, given) in [
                    (&mut hosts.login, &login),
                    (&mut hosts.activity, &activity),
                    (&mut hosts.resource_manager, &resource_manager),
                ] {
                    if let Some(given) = given {
                        *host = given.clone();
                    }
                }
            }
        },
    );
    tenants
}

fn read_tenant(section: &mut Section<'_, '_>, id: Option<TenantId>) -> Option<TenantConfig> {
    let client_id = section
        .guid(
            "client_id",
            "The id of the application that may read the tenant's audit records, a GUID.",
        )
        .required();
    let credential = read_credential(section);
    let content_types = section
        .choices(
            "content_types",
            "The feeds to collect, each once.",
            &CONTENT_TYPES,
        )
        .map(|names| {
            ContentType::ALL
                .into_iter()
                .filter(|feed| names.contains(&feed.as_str()))
                .collect()
        })
        .default(CONTENT_TYPES.map(toml::Value::from).to_vec());
    let cloud = section
        .choice(
            "cloud",
            "Which of Microsoft's clouds the tenant lives in.",
            &CLOUDS,
        )
        .map(|name| name.parse().unwrap_or(Cloud::Commercial))
        .default(Cloud::Commercial.as_str());
    let publisher = section.guid::<PublisherId>(
        "publisher_id",
        "Who the requests are counted for, a GUID. Requests that name nobody share one quota with all the world, \
         so that there is always one.",
    );
    let publisher = match id {
        Some(id) => publisher.computed("the tenant's id", id.to_string()),
        None => publisher.optional("the tenant's id"),
    };
    Some(TenantConfig {
        id: id?,
        client_id: client_id?,
        credential: credential?,
        content_types: content_types?,
        publisher: publisher?,
        hosts: cloud?.hosts(),
    })
}

/// Exactly one credential.
fn read_credential(section: &mut Section<'_, '_>) -> Option<Credential> {
    let client_secret = section
        .secret(
            "client_secret",
            "The application's client secret (its value, not its id).",
        )
        .optional("certificate or federated_token_file must be set, or managed_identity true");
    let certificate = section
        .secret_lines(
            "certificate",
            "The application's certificate with its private key, both in PEM form, in place of a secret: \
             { file = \"PATH\" } as a rule.",
        )
        .try_map(Kind::Secret, |pem| {
            ApplicationCertificate::from_pem(&pem).map_err(|error| match error {
                // A file's name, as a rule.
                InvalidCertificate::NotPem => format!("{error}; a file that is goes here as {{ file = \"PATH\" }}"),
                _ => error.to_string(),
            })
        })
        .optional("client_secret or federated_token_file must be set, or managed_identity true");
    let env = section.reader.env;
    let managed_identity = section
        .boolean(
            "managed_identity",
            "Whether the machine's own identity in Azure is used in place of an application's secret. client_id is then \
             the id of its service principal (object id), which registration with Alert Logic names.",
        )
        .try_map(Kind::Boolean, move |is_wanted| match is_wanted {
            true => ManagedIdentity::from_variables(|name| env.get(name))
                .map(Some)
                .map_err(|error| error.to_string()),
            false => Ok(None),
        })
        .default(false);
    let federated_token_file = section
        .path(
            "federated_token_file",
            "A file with a token of another issuer that the application trusts (a federated credential), such as a Kubernetes \
             service account's. It is read again for each token, as its issuer replaces it.",
        )
        .try_map(Kind::Path, |path| {
            read_assertion(&path)?;
            Ok(path)
        })
        .optional("client_secret or certificate must be set, or managed_identity true");
    let managed_identity = managed_identity?;
    let set = ["client_secret", "certificate", "federated_token_file"];
    let mut set: Vec<_> = set
        .into_iter()
        .filter(|name| section.origin_if_set(name).is_some())
        .collect();
    if managed_identity.is_some() {
        set.push("managed_identity");
    }
    match set.as_slice() {
        [] => {
            section.missing(
                "client_secret",
                "; or set certificate or federated_token_file, or, in Azure, managed_identity = true",
                ", or turn the app's managed identity on",
            );
            return None;
        }
        [first, .., last] => {
            section.incomplete(last, format!("{first} is set too; keep one of them"));
            return None;
        }
        // What is wrong with it has been said.
        [_] => {}
    }
    client_secret
        .map(Credential::ClientSecret)
        .or_else(|| certificate.map(Credential::Certificate))
        .or_else(|| federated_token_file.map(Credential::FederatedTokenFile))
        .or_else(|| managed_identity.map(Credential::ManagedIdentity))
}

fn read_origin(
    section: &mut Section<'_, '_>,
    name: &'static str,
    doc: &'static str,
) -> Option<Origin> {
    section
        .text(name, doc)
        .try_map(Kind::Url, |text| {
            text.parse()
                .map_err(|error: activity_api::InvalidOrigin| error.to_string())
        })
        .optional("the host of each tenant's cloud")
}
