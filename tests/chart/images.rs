//! The images: their names, tags and digests, and the registry to pull them from.

use crate::helm::{Release, text};

const MANAGED: [&str; 4] = ["aggregator", "publisher", "redis", "postgres"];

#[test]
fn our_images_carry_the_charts_version_and_the_backends_their_major() {
    let objects = Release::new().objects();
    let version = text(&objects.one("Deployment")["metadata"]["labels"]["app.kubernetes.io/version"]).to_owned();
    assert_eq!(version, env!("CARGO_PKG_VERSION"), "the chart's appVersion is the programs' version");
    assert_eq!(objects.container()["image"], format!("sluice-operator:{version}"));
    assert_eq!(objects.env("SLUICE_IMAGE_AGGREGATOR"), Some(&*format!("sluice-aggregator:{version}")));
    assert_eq!(objects.env("SLUICE_IMAGE_PUBLISHER"), Some(&*format!("sluice-publisher:{version}")));
    assert_eq!(objects.env("SLUICE_IMAGE_REDIS"), Some("redis:8"));
    assert_eq!(objects.env("SLUICE_IMAGE_POSTGRES"), Some("postgres:{version}"), "the resource determines the version");
}

#[test]
fn a_mirror_is_put_before_every_image() {
    let release = Release::new().set("imageRegistry=mirror.example:5000/cache/,test.resource=shop");
    let objects = release.objects();
    for (name, pod) in objects.pods() {
        let image = text(&pod["containers"][0]["image"]);
        assert!(image.starts_with("mirror.example:5000/cache/sluice-"), "{name}: {image}");
    }
    for image in MANAGED {
        let value = objects.env(&format!("SLUICE_IMAGE_{}", image.to_uppercase())).expect("an image");
        assert!(value.starts_with("mirror.example:5000/cache/"), "{image}: {value}");
    }
}

#[test]
fn a_digest_wins_over_the_tag() {
    let digest = format!("sha256:{}", "a1".repeat(32));
    let mut release = Release::new().set("image.tag=v9").set(&format!("image.digest={digest}"));
    for image in MANAGED {
        release = release.set(&format!("images.{image}.digest={digest}"));
    }
    let objects = release.objects();
    assert_eq!(objects.container()["image"], format!("sluice-operator@{digest}"));
    for image in MANAGED {
        let value = objects.env(&format!("SLUICE_IMAGE_{}", image.to_uppercase())).expect("an image");
        assert!(value.ends_with(&format!("{image}@{digest}")), "{value}");
    }
}

#[test]
fn pull_policy_and_secrets_reach_the_operator_and_the_tests() {
    let release = Release::new().set("imagePullPolicy=Always,test.resource=shop");
    let objects = release.set_json(r#"imagePullSecrets=[{"name":"one"},{"name":"two"}]"#).objects();
    for (name, pod) in objects.pods() {
        assert_eq!(pod["imagePullSecrets"][1]["name"], "two", "{name}");
        assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always", "{name}");
    }
}
