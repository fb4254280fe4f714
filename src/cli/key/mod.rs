//! `halligan key`: key ceremonies. They are offline: the command reads and writes files, and makes no connections.

mod explain;
mod files;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde_json::json;

use self::files::{Chain, private_key, public_key, public_name, write_new};
use super::failure::Failure;
use super::output::{Output, line};
use crate::platform::clock::wall;
use crate::protocol::key::{PublicKey, SigningKey};
use crate::protocol::keyset::{KeyUse, KeysetBody, KeysetKey, RootSet, UnverifiedKeyset};
use crate::protocol::time::Time;

#[derive(Subcommand, Debug)]
#[command(after_help = "Examples, each on the machine that has what it names:
  halligan key generate root-1.pem                              on a machine without a network
  halligan key init --root root-1.pub.pem --token token.pub.pem --replica replica.pub.pem keyset-1.json
  halligan key sign keyset-1.json --root root-1.pem
  halligan key remove --keyset keysets.ndjson --kid KID keyset-2.json
  halligan key verify --roots /etc/halligan/roots keysets.ndjson")]
pub(super) enum Verb {
    /// Create a key: a private one that only its owner can read, and beside it the public one.
    Generate {
        /// The private key's file; the public key's is NAME.pub.pem.
        file: PathBuf,
    },
    /// Write the first keyset, for the roots to sign.
    Init {
        /// The control plane's `issuer`. Nodes then accept no head of another issuer under this keyset.
        #[arg(long, value_name = "URL")]
        issuer: Option<String>,
        #[command(flatten)]
        roots: Roots,
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        written: Written,
    },
    /// Write the next keyset, with additional keys.
    Add {
        #[command(flatten)]
        before: Before,
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        written: Written,
    },
    /// Write the next keyset, without some keys. Nodes that follow it reject everything that these keys have signed.
    Remove {
        #[command(flatten)]
        before: Before,
        /// The thumbprint of a key to leave out.
        // One thumbprint in sixty-four begins with a hyphen.
        #[arg(long, required = true, value_name = "KID", allow_hyphen_values = true)]
        kid: Vec<String>,
        #[command(flatten)]
        written: Written,
    },
    /// Write the next keyset, with other roots for the one after it. Old and new roots must sign it.
    RotateRoot {
        #[command(flatten)]
        before: Before,
        #[command(flatten)]
        roots: Roots,
        #[command(flatten)]
        written: Written,
    },
    /// Write the next keyset, with the same keys and a later expiry.
    Renew {
        /// Name another issuer of the heads from now on: the control plane's `issuer`.
        #[arg(long, value_name = "URL")]
        issuer: Option<String>,
        #[command(flatten)]
        before: Before,
        #[command(flatten)]
        written: Written,
    },
    /// Add the signatures of roots to a keyset, in its file.
    Sign {
        /// The keyset.
        keyset: PathBuf,
        /// A root's private key.
        #[arg(long = "root", required = true, value_name = "FILE")]
        roots: Vec<PathBuf>,
    },
    /// Explain keys and keysets.
    Show {
        /// Files with keys (PEM), or with one keyset or a chain of them.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Verify a chain of keysets from pinned roots, as a node does.
    Verify {
        /// A directory of pinned root keys, as a node has it.
        #[arg(long, value_name = "DIR")]
        roots: Option<PathBuf>,
        /// A pinned root's public key.
        #[arg(long = "root", value_name = "FILE")]
        root: Vec<PathBuf>,
        /// Number of these roots that must have signed the first keyset.
        #[arg(long, default_value_t = 1)]
        threshold: u32,
        /// Files with one keyset or a chain of them.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// The roots of a keyset.
#[derive(Args, Debug)]
pub(super) struct Roots {
    /// A root's public key.
    #[arg(long = "root", required = true, value_name = "FILE")]
    root: Vec<PathBuf>,
    /// Number of roots that must sign the next keyset.
    #[arg(long, default_value_t = 1)]
    threshold: u32,
}

/// Keys for a keyset.
#[derive(Args, Debug)]
pub(super) struct Keys {
    /// The public key of a key that signs tokens.
    #[arg(long, value_name = "FILE")]
    token: Vec<PathBuf>,
    /// The public key of a key that signs heads.
    #[arg(long, value_name = "FILE")]
    replica: Vec<PathBuf>,
}

/// The keyset that is followed.
#[derive(Args, Debug)]
pub(super) struct Before {
    /// The file with the keyset to follow. Of a chain, its newest keyset is followed.
    #[arg(long, value_name = "FILE")]
    keyset: PathBuf,
}

/// Lifetime and destination of the new keyset.
#[derive(Args, Debug)]
pub(super) struct Written {
    /// Days for which nodes accept new heads under it.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
    /// Sign with this root's private key at once.
    #[arg(long, value_name = "FILE")]
    sign: Vec<PathBuf>,
    /// The keyset's file. An existing file is not overwritten.
    file: PathBuf,
}

pub(super) fn run(verb: Verb, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::Generate { file } => generate(&file, output),
        Verb::Init { issuer, roots, keys, written } => {
            let body = KeysetBody {
                iss: issuer,
                version: 1,
                iat: Time::default(),
                exp: Time::default(),
                keys: keys.read()?,
                roots: Vec::new(),
                threshold: 0,
            };
            written.write(roots.put_into(body)?, output)
        }
        Verb::Add { before, keys, written } => {
            let mut body = before.next()?;
            let added = keys.read()?;
            if added.is_empty() {
                return Err(Failure::Usage("name a key to add with --token or --replica".into()));
            }
            for key in added {
                if body.keys.contains(&key) {
                    return Err(Failure::Data(format!("{} is in the keyset already", kid(&key))));
                }
                body.keys.push(key);
            }
            written.write(body, output)
        }
        Verb::Remove { before, kid: gone, written } => {
            let mut body = before.next()?;
            for gone in gone {
                let count = body.keys.len();
                body.keys.retain(|key| kid(key) != gone);
                if body.keys.len() == count {
                    return Err(Failure::Data(format!("no key of the keyset is {gone}")));
                }
            }
            written.write(body, output)
        }
        Verb::RotateRoot { before, roots, written } => written.write(roots.put_into(before.next()?)?, output),
        Verb::Renew { issuer, before, written } => {
            let body = before.next()?;
            let iss = issuer.or_else(|| body.iss.clone());
            written.write(KeysetBody { iss, ..body }, output)
        }
        Verb::Sign { keyset, roots } => sign(&keyset, &roots, output),
        Verb::Show { files } => explain::show(&files, output),
        Verb::Verify { roots, root, threshold, files } => {
            let mut pinned = root.iter().map(|file| public_key(file)).collect::<Result<Vec<_>, _>>()?;
            if let Some(directory) = roots {
                pinned.extend(files::directory(&directory)?);
            }
            if pinned.is_empty() {
                return Err(Failure::Usage("name the pinned roots with --roots or --root".into()));
            }
            let pinned = RootSet::new(pinned, threshold).map_err(|error| Failure::Data(error.to_string()))?;
            explain::verify(&pinned, &files, output)
        }
    }
}

fn kid(key: &KeysetKey) -> String {
    PublicKey::from_jwk(&key.jwk).map_or_else(|error| error.to_string(), |key| key.kid().to_string())
}

fn generate(file: &Path, output: Output) -> Result<(), Failure> {
    let public = public_name(file);
    // Checked before the private key is written, so that either both files are written or none.
    if public.exists() {
        let source = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(Failure::File { path: public, source });
    }
    let key = SigningKey::generate(&mut UnwrapErr(SysRng));
    write_new(file, key.to_pkcs8_pem().as_bytes(), 0o600)?;
    write_new(&public, key.public().to_pem().as_bytes(), 0o644)?;
    if output.json {
        let made = json!({ "kid": key.public().kid().as_str(), "privateKey": file, "publicKey": public });
        line(&made.to_string());
    } else {
        line(&format!("key          {}", key.public().kid()));
        line(&format!("private key  {}", file.display()));
        line(&format!("public key   {}", public.display()));
    }
    Ok(())
}

impl Roots {
    fn put_into(&self, mut body: KeysetBody) -> Result<KeysetBody, Failure> {
        let roots = self.root.iter().map(|file| public_key(file)).collect::<Result<Vec<_>, _>>()?;
        body.roots = roots.iter().map(PublicKey::jwk).collect();
        body.threshold = self.threshold;
        Ok(body)
    }
}

impl Keys {
    fn read(&self) -> Result<Vec<KeysetKey>, Failure> {
        let token = self.token.iter().map(|file| (KeyUse::Token, file));
        let replica = self.replica.iter().map(|file| (KeyUse::Replica, file));
        let listed =
            |(key_use, file): (KeyUse, &PathBuf)| Ok(KeysetKey { key_use, jwk: public_key(file)?.jwk() });
        token.chain(replica).map(listed).collect()
    }
}

impl Before {
    /// Returns the body of the next keyset, without changes.
    fn next(&self) -> Result<KeysetBody, Failure> {
        let before = Chain::read(&self.keyset)?.newest();
        let version = before.version.saturating_add(1);
        Ok(KeysetBody { version, ..before })
    }
}

impl Written {
    fn write(&self, mut body: KeysetBody, output: Output) -> Result<(), Failure> {
        body.iat = wall();
        body.exp = body.iat.plus(i64::from(self.days) * 24 * 3600);
        for key_use in [KeyUse::Token, KeyUse::Replica] {
            if !body.keys.iter().any(|key| key.key_use == key_use) {
                let what = if key_use == KeyUse::Token { "tokens" } else { "heads" };
                return Err(Failure::Data(format!("no key in the keyset would sign {what}; add one first")));
            }
        }
        let roots = body.roots.iter().map(PublicKey::from_jwk).collect::<Result<Vec<_>, _>>();
        let roots = roots.map_err(|error| Failure::Data(error.to_string()))?;
        RootSet::new(roots, body.threshold).map_err(|error| Failure::Data(error.to_string()))?;
        let mut keyset = UnverifiedKeyset::unsigned(body);
        for root in &self.sign {
            keyset.sign(&private_key(root)?);
        }
        write_new(&self.file, format!("{}\n", keyset.to_line()).as_bytes(), 0o644)?;
        explain::written(&self.file, &keyset, output);
        Ok(())
    }
}

fn sign(file: &Path, roots: &[PathBuf], output: Output) -> Result<(), Failure> {
    let Chain(keysets) = Chain::read(file)?;
    let Ok([mut keyset]) = <[UnverifiedKeyset; 1]>::try_from(keysets) else {
        return Err(Failure::Data(format!(
            "{} holds more than one keyset; sign each in its own file",
            file.display()
        )));
    };
    for root in roots {
        keyset.sign(&private_key(root)?);
    }
    files::replace(file, format!("{}\n", keyset.to_line()).as_bytes())?;
    explain::written(file, &keyset, output);
    Ok(())
}
