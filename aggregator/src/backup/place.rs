//! Where backups are: a folder or an S3 bucket.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Certificate, ClientOptions, ObjectStore, ObjectStoreExt};
use url::Url;

use super::manifest::{DUMP, MANIFEST, MAX_BYTES, Manifest, is_name};

/// The longest that one request may take. A part has at least 8 MiB, so a line may be as slow as 70 KiB/s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// The most manifests that are read. Each is read with a request of its own.
const MAX_BACKUPS: usize = 10_000;

/// A place for backups.
pub(super) struct Place {
    pub objects: Arc<dyn ObjectStore>,
    prefix: Path,
}

/// What was found at a place.
#[derive(Default)]
pub(super) struct Found {
    /// The backups, the newest first.
    pub backups: Vec<Manifest>,
    /// Dumps without a manifest: backups that were interrupted, or are being made.
    pub unfinished: Vec<object_store::ObjectMeta>,
    /// Manifests that cannot be read, each with the reason.
    pub unreadable: Vec<(String, String)>,
}

impl Place {
    /// Opens the place at a URL: `file:///FOLDER`, which is created, or `s3://BUCKET/PREFIX`. The environment has the
    /// credentials of S3.
    ///
    /// # Errors
    /// If the URL cannot be used.
    pub fn open(url: &str) -> anyhow::Result<Self> {
        let parsed = Url::parse(url).with_context(|| format!("--url: {url:?} is not a URL"))?;
        ensure!(
            parsed.query().is_none() && parsed.fragment().is_none() && parsed.username().is_empty(),
            "--url: it must be file:///FOLDER or s3://BUCKET/PREFIX, without anything else"
        );
        let prefix = || Path::from_url_path(parsed.path()).context("--url: the path is not valid");
        match parsed.scheme() {
            "file" => {
                let folder = parsed.to_file_path().ok().context("--url: it must be of the form file:///FOLDER")?;
                std::fs::create_dir_all(&folder)
                    .with_context(|| format!("--url: cannot create {}", folder.display()))?;
                let objects = LocalFileSystem::new_with_prefix(&folder)?.with_fsync(true);
                Ok(Self { objects: Arc::new(objects), prefix: Path::default() })
            }
            "s3" => {
                let bucket = parsed.host_str().filter(|bucket| !bucket.is_empty());
                let bucket = bucket.context("--url: it must be of the form s3://BUCKET/PREFIX")?;
                Ok(Self { objects: Arc::new(bucket_at(bucket)?), prefix: prefix()? })
            }
            other => bail!("--url: {other}:// is not known; use file:///FOLDER or s3://BUCKET/PREFIX"),
        }
    }

    /// Returns where the dump of a backup is.
    pub fn dump(&self, name: &str) -> Path {
        self.at(&format!("{name}{DUMP}"))
    }

    /// Returns where the manifest of a backup is.
    pub fn manifest(&self, name: &str) -> Path {
        self.at(&format!("{name}{MANIFEST}"))
    }

    fn at(&self, file: &str) -> Path {
        self.prefix.clone().join(file)
    }

    /// Checks that the place can be read, so that a wrong name or password is found before a dump is made.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn check(&self) -> anyhow::Result<()> {
        self.objects
            .list_with_delimiter(Some(&self.prefix))
            .await
            .context("the place of the backups cannot be read")?;
        Ok(())
    }

    /// Lists what is there. Other files are left out.
    ///
    /// # Errors
    /// If the place cannot be read.
    pub async fn list(&self) -> anyhow::Result<Found> {
        let listed = self.objects.list_with_delimiter(Some(&self.prefix)).await;
        let listed = listed.context("the place of the backups cannot be read")?;
        let (mut found, mut manifests, mut dumps) = (Found::default(), Vec::new(), Vec::new());
        for object in listed.objects {
            let file = object.location.filename().unwrap_or_default().to_owned();
            if let Some(name) = file.strip_suffix(MANIFEST).filter(|name| is_name(name)) {
                manifests.push((name.to_owned(), object));
            } else if file.strip_suffix(DUMP).is_some_and(is_name) {
                dumps.push(object);
            }
        }
        ensure!(manifests.len() <= MAX_BACKUPS, "more than {MAX_BACKUPS} backups are there");
        for (name, object) in &manifests {
            match self.read(name, object.size).await {
                Ok(manifest) => found.backups.push(manifest),
                Err(error) => found.unreadable.push((name.clone(), format!("{error:#}"))),
            }
        }
        found.backups.sort_by(|one, other| other.name.cmp(&one.name));
        dumps.retain(|dump| manifests.iter().all(|(name, _)| self.dump(name) != dump.location));
        found.unfinished = dumps;
        Ok(found)
    }

    async fn read(&self, name: &str, size: u64) -> anyhow::Result<Manifest> {
        ensure!(size <= MAX_BYTES, "the manifest has {size} bytes, more than {MAX_BYTES}");
        let bytes = self.objects.get(&self.manifest(name)).await?.bytes().await?;
        let manifest = Manifest::parse(&bytes)?;
        ensure!(manifest.name == name, "the manifest is that of {}", manifest.name);
        Ok(manifest)
    }

    /// Returns the backup of this name, or the newest one.
    ///
    /// # Errors
    /// If there is none, or its manifest cannot be read.
    pub async fn find(&self, name: Option<&str>) -> anyhow::Result<Manifest> {
        let Some(name) = name else {
            let found = self.list().await?;
            return found.backups.into_iter().next().context("there is no backup");
        };
        ensure!(is_name(name), "{name:?} is not the name of a backup, such as 20260102-030405-678");
        match self.objects.head(&self.manifest(name)).await {
            Ok(object) => self.read(name, object.size).await.with_context(|| format!("the manifest of {name}")),
            Err(object_store::Error::NotFound { .. }) => bail!("there is no backup {name}"),
            Err(error) => Err(error).context("the place of the backups cannot be read"),
        }
    }

    /// Removes objects. One that does not exist any more is no error.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub async fn remove(&self, paths: Vec<Path>) -> anyhow::Result<()> {
        for path in paths {
            match self.objects.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot remove {path}")),
            }
        }
        Ok(())
    }
}

/// Returns a bucket of S3. The variables are those that other programs know too; `AWS_CA_BUNDLE` names a file with the
/// CAs of an endpoint of one's own.
fn bucket_at(bucket: &str) -> anyhow::Result<object_store::aws::AmazonS3> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut options = ClientOptions::new().with_timeout(REQUEST_TIMEOUT);
    if let Some(file) = variable("AWS_CA_BUNDLE") {
        let read = || anyhow::Ok(Certificate::from_pem_bundle(&std::fs::read(&file)?)?);
        for certificate in read().with_context(|| format!("AWS_CA_BUNDLE: {file} has no certificates"))? {
            options = options.with_root_certificate(certificate);
        }
    }
    let http = match variable("AWS_ALLOW_HTTP").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => bail!("AWS_ALLOW_HTTP is {other:?}; it must be true or false"),
    };
    let builder = AmazonS3Builder::from_env().with_client_options(options).with_allow_http(http);
    builder.with_bucket_name(bucket).build().context("the S3 bucket")
}
