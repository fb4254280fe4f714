//! Object store of the archives: a directory of this host, or an S3 bucket. An archive is written once, under a name that
//! no other has, and never changed.

use std::ops::Range;
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
use crate::platform::net::provider;
use crate::platform::private_file::create_private_directories;
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
    /// Something else than a directory stands there, or on the way.
    #[error(
        "the directory {} of deploys.store can't be used: it is no directory; name another path in deploys.store, or move away what stands there",
        .0.display()
    )]
    NotADirectory(PathBuf),
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

/// Archive that is being written.
struct Writer {
    upload: WriteMultipart,
    hash: Sha256,
    size: u64,
}

fn failed(error: object_store::Error) -> NotReceived {
    NotReceived::Store(Error::Archives(error))
}

impl Writer {
    async fn put(&mut self, data: Bytes) -> Result<(), NotReceived> {
        self.size += data.len() as u64;
        if self.size > MAX_ARCHIVE {
            return Err(NotReceived::TooLarge);
        }
        self.hash.update(&data);
        self.upload.wait_for_capacity(PIECES).await.map_err(failed)?;
        self.upload.put(data);
        Ok(())
    }

    async fn end(self, ended: Result<(), NotReceived>) -> Result<Received, NotReceived> {
        if let Err(fault) = ended {
            let _ = self.upload.abort().await;
            return Err(fault);
        }
        self.upload.finish().await.map_err(failed)?;
        Ok(Received { digest: self.hash.finalize().into(), size: self.size })
    }
}

/// Returns the ranges of the pieces of an archive from byte `from` on.
pub(in crate::controlplane) fn pieces(from: u64, size: u64) -> impl Iterator<Item = Range<u64>> {
    let piece = PIECE as u64;
    (from..size).step_by(PIECE).map(move |start| start..size.min(start + piece))
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

    /// Keeps archives where they are without a place in the configuration: beside the signing keys.
    #[must_use]
    pub(in crate::controlplane) fn beside(keys: &std::path::Path) -> Self {
        Self::within(keys.join("deploys"))
    }

    /// Keeps archives where the configuration says: in a directory, or with `s3://BUCKET/PREFIX` in a bucket, to which the
    /// `AWS_` variables of the environment lead.
    pub fn open(place: &str) -> Result<Self, ArchivesError> {
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
        provider::install();
        let store = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .build()
            .map_err(|error| ArchivesError::Bucket(error.to_string()))?;
        Ok(Self { store: Arc::new(store), prefix, directory: None, receiving: Semaphore::new(RECEIVED) })
    }

    /// Rejects a directory that the first archive could not make or use, and changes nothing. An object store is not asked.
    pub(in crate::controlplane) fn examine(&self) -> Result<(), ArchivesError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let stands = match std::fs::metadata(directory) {
            Ok(found) => !found.is_dir(),
            Err(error) => error.kind() == std::io::ErrorKind::NotADirectory,
        };
        if stands { Err(ArchivesError::NotADirectory(directory.clone())) } else { Ok(()) }
    }

    fn path(&self, archive: &str) -> Path {
        archive.split('/').fold(self.prefix.clone(), Path::join)
    }

    /// Makes the directory, and deletes the files of archives whose writing was interrupted.
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
            create_private_directories(directory)?;
        }
        Ok(())
    }

    /// Returns the right to receive one archive, unless too many are being received.
    pub(in crate::controlplane) fn admit(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.receiving.try_acquire().map_err(|_| Error::Receiving(30))
    }

    async fn writer(&self, archive: &str) -> Result<Writer, NotReceived> {
        self.make_directory().map_err(NotReceived::Store)?;
        let upload = self.store.put_multipart(&self.path(archive)).await.map_err(failed)?;
        let upload = WriteMultipart::new_with_chunk_size(upload, PIECE);
        Ok(Writer { upload, hash: Sha256::new(), size: 0 })
    }

    /// Writes the bytes of `body` as `archive`. Nothing is left of an archive that did not arrive as a whole.
    pub(in crate::controlplane) async fn receive(
        &self,
        archive: &str,
        mut body: Body,
    ) -> Result<Received, NotReceived> {
        let mut writer = self.writer(archive).await?;
        let ended = loop {
            let data = match body.frame().await {
                None => break Ok(()),
                Some(Err(_)) => break Err(NotReceived::CutOff),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            if let Err(fault) = writer.put(data).await {
                break Err(fault);
            }
        };
        writer.end(ended).await
    }

    /// Writes archives one after the other as `archive`. Each is given by its name and size.
    pub(in crate::controlplane) async fn join(
        &self,
        archive: &str,
        parts: &[(String, u64)],
    ) -> Result<Received, NotReceived> {
        let mut writer = self.writer(archive).await?;
        let mut ended = Ok(());
        for (part, size) in parts {
            ended = async {
                for range in pieces(0, *size) {
                    writer.put(self.read(part, range).await.map_err(NotReceived::Store)?).await?;
                }
                Ok(())
            }
            .await;
            if ended.is_err() {
                break;
            }
        }
        writer.end(ended).await
    }

    /// Reads bytes of an archive.
    pub(in crate::controlplane) async fn read(
        &self,
        archive: &str,
        range: Range<u64>,
    ) -> Result<Bytes, Error> {
        self.store.get_range(&self.path(archive), range).await.map_err(Error::Archives)
    }

    /// Deletes an archive. A missing archive is no error.
    pub(in crate::controlplane) async fn delete(&self, archive: &str) -> Result<(), Error> {
        match self.store.delete(&self.path(archive)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::Archives(error)),
        }
    }
}
