//! Object store of the archives: a directory of this host, or an S3 bucket. An archive is written once, under a name that
//! no other has, and never changed.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, WriteMultipart};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::controlplane::error::Error;
use crate::protocol::deploy::MAX_ARCHIVE;

/// Size of the pieces in which an archive is written and read, in bytes. S3 takes none below 5 MiB.
pub(in crate::controlplane) const PIECE: usize = 8 << 20;
/// Pieces of one archive that are written at a time.
const PIECES: usize = 2;
/// Archives that are received at a time: each needs memory for some pieces.
const RECEIVED: usize = 8;

/// Reasons to reject the place where archives shall be kept.
#[derive(Debug, Error)]
pub enum ArchivesError {
    /// The text is neither a directory nor the URL of a bucket.
    #[error(
        "deploys.store = {0:?} in the configuration is neither an absolute path nor s3://BUCKET/PREFIX; set one of them"
    )]
    Place(String),
    /// The bucket can't be used as the environment describes it.
    #[error(
        "the bucket of deploys.store can't be used: {0}; see the AWS_ variables of the service's environment"
    )]
    Bucket(String),
}

/// Reasons not to take the bytes of an archive.
#[derive(Debug)]
pub(in crate::controlplane) enum NotReceived {
    /// There are more than an archive may have.
    TooLarge,
    /// They ended early, or too slowly.
    CutOff,
    /// The store failed.
    Store(Error),
}

/// Digest and size of what was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::controlplane) struct Received {
    pub(in crate::controlplane) digest: [u8; 32],
    pub(in crate::controlplane) size: u64,
}

/// Object store of the archives.
#[derive(Debug)]
pub struct Archives {
    store: Arc<dyn ObjectStore>,
    /// Path of all of its objects.
    prefix: Path,
    /// Directory, if it is one.
    directory: Option<PathBuf>,
    receiving: Semaphore,
}

impl Archives {
    /// Keeps archives in a directory, which the first one makes.
    #[must_use]
    pub fn within(directory: PathBuf) -> Self {
        let directory = std::path::absolute(&directory).unwrap_or(directory);
        let prefix = Path::from_absolute_path(&directory).unwrap_or_default();
        let store = Arc::new(LocalFileSystem::new().with_fsync(true));
        Self { store, prefix, directory: Some(directory), receiving: Semaphore::new(RECEIVED) }
    }

    /// Keeps archives where the configuration says: in a directory, or with `s3://BUCKET/PREFIX` in a bucket, to which the
    /// `AWS_` variables of the environment lead.
    pub fn at(place: &str) -> Result<Self, ArchivesError> {
        let Some(bucket) = place.strip_prefix("s3://") else {
            let directory = PathBuf::from(place);
            let usable = directory.is_absolute() && Path::from_absolute_path(&directory).is_ok();
            return if usable {
                Ok(Self::within(directory))
            } else {
                Err(ArchivesError::Place(place.into()))
            };
        };
        let (bucket, prefix) = bucket.split_once('/').unwrap_or((bucket, ""));
        let prefix = Path::parse(prefix.trim_end_matches('/'));
        let (false, Ok(prefix)) = (bucket.is_empty(), prefix) else {
            return Err(ArchivesError::Place(place.into()));
        };
        // The listener of this process may have installed the same provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .build()
            .map_err(|error| ArchivesError::Bucket(error.to_string()))?;
        Ok(Self { store: Arc::new(store), prefix, directory: None, receiving: Semaphore::new(RECEIVED) })
    }

    fn path(&self, archive: &str) -> Path {
        archive.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Makes the directory, and deletes what a stop in the middle of an archive left there.
    pub(in crate::controlplane) fn prepare(&self) -> std::io::Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        if !directory.exists() {
            return Ok(());
        }
        for folder in std::fs::read_dir(directory)? {
            let folder = folder?.path();
            if !folder.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(folder)? {
                let file = file?;
                // The store writes beside the place, with `#` and a number behind the name.
                if file.file_name().to_string_lossy().contains('#') {
                    std::fs::remove_file(file.path())?;
                }
            }
        }
        Ok(())
    }

    fn make_directory(&self) -> Result<(), Error> {
        if let Some(directory) = &self.directory {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        Ok(())
    }

    /// Returns the right to receive one archive, unless too many are being received.
    pub(in crate::controlplane) fn admit(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.receiving.try_acquire().map_err(|_| Error::Receiving(30))
    }

    /// Writes the bytes of `body` as `archive`. Nothing is left of an archive that did not arrive as a whole.
    pub(in crate::controlplane) async fn receive(
        &self,
        archive: &str,
        mut body: Body,
    ) -> Result<Received, NotReceived> {
        self.make_directory().map_err(NotReceived::Store)?;
        let failed = |error| NotReceived::Store(Error::Archives(error));
        let upload = self.store.put_multipart(&self.path(archive)).await.map_err(failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PIECE);
        let (mut hash, mut size) = (Sha256::new(), 0);
        let ended = loop {
            let data = match body.frame().await {
                None => break Ok(()),
                Some(Err(_)) => break Err(NotReceived::CutOff),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            size += data.len() as u64;
            if size > MAX_ARCHIVE {
                break Err(NotReceived::TooLarge);
            }
            hash.update(&data);
            if let Err(error) = upload.wait_for_capacity(PIECES).await {
                break Err(failed(error));
            }
            upload.put(data);
        };
        if let Err(fault) = ended {
            let _ = upload.abort().await;
            return Err(fault);
        }
        upload.finish().await.map_err(failed)?;
        Ok(Received { digest: hash.finalize().into(), size })
    }

    /// Reads bytes of an archive.
    pub(in crate::controlplane) async fn read(
        &self,
        archive: &str,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes, Error> {
        self.store.get_range(&self.path(archive), range).await.map_err(Error::Archives)
    }

    /// Deletes an archive. One that is not there is deleted.
    pub(in crate::controlplane) async fn delete(&self, archive: &str) -> Result<(), Error> {
        match self.store.delete(&self.path(archive)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::Archives(error)),
        }
    }
}
