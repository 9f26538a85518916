//! Tests of clouds and origins.

use super::*;

#[test]
fn every_cloud_is_read_back_from_its_name() {
    for cloud in Cloud::ALL {
        assert_eq!(cloud.to_string().parse(), Ok(cloud));
    }
    assert_eq!("GCC".parse::<Cloud>(), Err(InvalidCloud));
}

#[test]
fn the_hosts_of_every_cloud_are_origins_as_they_would_be_read() {
    for cloud in Cloud::ALL {
        let hosts = cloud.hosts();
        for origin in [hosts.login, hosts.activity, hosts.resource_manager] {
            assert_eq!(origin.as_str().parse(), Ok(origin.clone()));
            assert!(origin.as_str().starts_with("https://"));
        }
    }
}

#[test]
fn an_origin_is_printed_without_what_says_nothing() {
    for (text, expected) in [
        ("https://manage.office.com", "https://manage.office.com"),
        ("https://manage.office.com/", "https://manage.office.com"),
        ("HTTPS://Manage.Office.COM:443", "https://manage.office.com"),
        ("https://proxy.example:8443/", "https://proxy.example:8443"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ] {
        assert_eq!(
            text.parse::<Origin>().unwrap().to_string(),
            expected,
            "{text}"
        );
    }
}

#[test]
fn what_is_more_or_less_than_an_origin_is_refused() {
    use InvalidOrigin::*;
    for (text, expected) in [
        ("", NotHttps),
        ("manage.office.com", NotHttps),
        ("ftp://manage.office.com", NotHttps),
        ("//manage.office.com", NotHttps),
        ("http://manage.office.com", PlainHttp),
        ("http://localhost.evil.example", PlainHttp),
        ("http://10.0.0.1", PlainHttp),
        ("http://[::2]", PlainHttp),
        ("https://user@manage.office.com", UserInfo),
        ("https://user:word@manage.office.com", UserInfo),
        ("https://manage.office.com//", NotOnlyAnOrigin),
        ("https://manage.office.com/api", NotOnlyAnOrigin),
        ("https://manage.office.com?x=1", NotOnlyAnOrigin),
        ("https://manage.office.com#x", NotOnlyAnOrigin),
        ("https://manage.office.com\\api", NotOnlyAnOrigin),
        ("https://", Host),
        ("https:///", Host),
        ("https://manage office.com", Host),
        ("https://manage.office.com\n", Host),
        ("https://m%61nage.office.com", Host),
        ("https://mänage.office.com", Host),
        ("https://manage.office.com:99999", Host),
        ("https://manage.office.com:0", Host),
        ("https://manage.office.com:", Host),
        ("https://[::1", Host),
    ] {
        assert_eq!(text.parse::<Origin>(), Err(expected), "{text:?}");
    }
}
