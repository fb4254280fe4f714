//! tokens.json: tokens, and bytes that are none.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use halligan::protocol::jws::{Typ, sign};
use halligan::protocol::key::SigningKey;
use halligan::protocol::token::{TokenError, verify};
use serde_json::{Value, json};

use super::{Vectors, base64, changed, header, keyset, payload, raw_jws, replaced, text};
use crate::world::World;

const DIRECT: &str = "direct-access+jwt";

fn answer(common: &Value, case: &Value) -> String {
    let answer = match verify(text(case, "token").as_bytes(), &keyset(common)) {
        Ok(_) => "ok",
        Err(TokenError::Malformed) => "token_malformed",
        Err(TokenError::TooLarge) => "token_too_large",
        Err(TokenError::KeyUnknown) => "key_unknown",
        Err(TokenError::SignatureInvalid) => "signature_invalid",
    };
    answer.into()
}

/// Returns the token with S in its signature replaced by S plus the order of the group. The equation still holds, but
/// the encoding is not canonical (RFC 8032 section 5.1.7).
fn with_large_s(token: &str) -> String {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let (input, signature) = token.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut carry = 0_u16;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    format!("{input}.{}", base64(signature))
}

/// Returns a token of exactly `length` bytes, padded with an unknown claim and with white space in the header.
fn of_length(world: &World, claims: &str, length: usize) -> String {
    let encoded = |bytes: usize| (bytes * 4).div_ceil(3);
    let header = header(DIRECT, &world.token);
    let tries = (0..4).flat_map(|spaces| (0..length).map(move |pad| (spaces, pad)));
    let (spaces, pad) = tries
        .into_iter()
        .find(|(spaces, pad)| {
            let claims = claims.len() + r#""pad":"","#.len() + pad;
            encoded(header.len() + spaces) + encoded(claims) + 2 + 86 == length
        })
        .unwrap();
    let header = replaced(&header, ",", &format!(",{}", " ".repeat(spaces)));
    let claims = replaced(claims, "{", &format!(r#"{{"pad":"{}","#, "x".repeat(pad)));
    raw_jws(header.as_bytes(), &base64(claims), &world.token)
}

#[test]
fn tokens() {
    let world = World::new();
    let mut vectors =
        Vectors::new("tokens.json", "Is `token` a token signed with a `token` key of `keyset`?", answer)
            .with("keyset", json!(world.keyset));
    let mut case = |name: &str, token: String, expected: &str, why: &str| {
        vectors.case(name, json!({ "token": token }), expected, why);
    };
    let good = world.value(0);
    let claims = payload(&good);
    let signed = |claims: &str| sign(Typ::DirectAccess, claims.as_bytes(), &world.token);
    let headed = |header: &str| raw_jws(header.as_bytes(), &base64(&claims), &world.token);
    let usual = header(DIRECT, &world.token);

    case("as it was made", good.clone(), "ok", "");
    case("alg by its name of RFC 9864", headed(&replaced(&usual, "EdDSA", "Ed25519")), "ok", "");
    case(
        "members of the header in another order",
        {
            let thumbprint = world.token.public().kid();
            headed(&format!(r#"{{"kid":"{thumbprint}","typ":"{DIRECT}","alg":"EdDSA"}}"#))
        },
        "ok",
        "",
    );
    case(
        "a standard token without exp and role",
        {
            let claims = r#"{"iss":"https://control.example","sub":"tok_s","aud":"https://control.example","iat":1,"nbf":1,"gen":1}"#;
            sign(Typ::Standard, claims.as_bytes(), &world.token)
        },
        "ok",
        "",
    );
    case(
        "an unknown claim",
        signed(&replaced(&claims, "{", r#"{"x":[1],"#)),
        "ok",
        "the claims are an open object",
    );
    case("white space in claims", signed(&replaced(&claims, ",", " ,\n ")), "ok", "");
    case(
        "an unknown claim that stands twice",
        signed(&replaced(&claims, "{", r#"{"x":1,"x":2,"#)),
        "ok",
        "only members of the table must not stand twice",
    );
    case("4096 bytes", of_length(&world, &claims, 4096), "ok", "");

    let signature = "the signature does not hold";
    case("a bit of the signature changed", changed(&good, 10), "signature_invalid", signature);
    case(
        "claims of another token",
        {
            let other = payload(&world.value(1));
            let parts: Vec<&str> = good.split('.').collect();
            format!("{}.{}.{}", parts[0], base64(other), parts[2])
        },
        "signature_invalid",
        signature,
    );
    case(
        "S plus the order of the group",
        with_large_s(&good),
        "signature_invalid",
        "S is not below the order",
    );
    case(
        "a signature of zeros",
        {
            let (input, _) = good.rsplit_once('.').unwrap();
            format!("{input}.{}", base64([0; 64]))
        },
        "signature_invalid",
        signature,
    );
    case(
        "R is a point of small order",
        {
            let (input, _) = good.rsplit_once('.').unwrap();
            let mut bytes = [0; 64];
            bytes[0] = 1;
            format!("{input}.{}", base64(bytes))
        },
        "signature_invalid",
        "R has small order",
    );
    let unknown = "its kid is no token key of the keyset";
    case(
        "signed by another key",
        sign(Typ::DirectAccess, claims.as_bytes(), &SigningKey::from_seed(&[9; 32])),
        "key_unknown",
        unknown,
    );
    case(
        "signed by the key for heads",
        sign(Typ::DirectAccess, claims.as_bytes(), &world.replica),
        "key_unknown",
        unknown,
    );
    case(
        "a kid in another case",
        headed(&{
            let kid = world.token.public().kid().to_string();
            replaced(&usual, &kid, &kid.to_lowercase())
        }),
        "key_unknown",
        "a kid is compared byte for byte",
    );

    let kind = "typ names another kind of object";
    case(
        "signed as a head",
        sign(Typ::ReplicaHead, claims.as_bytes(), &world.token),
        "token_malformed",
        kind,
    );
    case(
        "signed as a user's token",
        sign(Typ::User, claims.as_bytes(), &world.token),
        "token_malformed",
        kind,
    );
    case(
        "typ in capitals",
        headed(&replaced(&usual, DIRECT, "Direct-Access+JWT")),
        "token_malformed",
        "typ is compared byte for byte",
    );
    case(
        "typ as a full media type",
        headed(&replaced(&usual, DIRECT, "application/direct-access+jwt")),
        "token_malformed",
        "typ is compared byte for byte",
    );
    let members = "the header has exactly alg, typ and kid";
    case(
        "alg none",
        headed(&replaced(&usual, "EdDSA", "none")),
        "token_malformed",
        "alg is EdDSA or Ed25519",
    );
    case(
        "alg ES256",
        headed(&replaced(&usual, "EdDSA", "ES256")),
        "token_malformed",
        "alg is EdDSA or Ed25519",
    );
    case(
        "crit and b64 in the header",
        headed(&replaced(&usual, "}", r#","crit":["b64"],"b64":false}"#)),
        "token_malformed",
        members,
    );
    case(
        "jku in the header",
        headed(&replaced(&usual, "}", r#","jku":"https://x.example"}"#)),
        "token_malformed",
        members,
    );
    case(
        "no kid in the header",
        headed(r#"{"alg":"EdDSA","typ":"direct-access+jwt"}"#),
        "token_malformed",
        members,
    );
    case(
        "kid twice in the header",
        headed(&replaced(&usual, "}", r#","kid":"x"}"#)),
        "token_malformed",
        "a member stands twice",
    );
    case(
        "the header an array of its members",
        {
            let thumbprint = world.token.public().kid();
            headed(&format!(r#"["EdDSA","{DIRECT}","{thumbprint}"]"#))
        },
        "token_malformed",
        "the header is an object",
    );
    case(
        "a header of 512 bytes",
        headed(&replaced(&usual, ",", &format!(",{}", " ".repeat(512 - usual.len())))),
        "ok",
        "",
    );
    case(
        "a header of 513 bytes",
        headed(&replaced(&usual, ",", &format!(",{}", " ".repeat(513 - usual.len())))),
        "token_malformed",
        "a header is at most 512 bytes, decoded",
    );

    let shape = "a compact JWS has exactly three parts";
    case("no byte", String::new(), "token_malformed", shape);
    case("two parts", good.rsplit_once('.').unwrap().0.to_owned(), "token_malformed", shape);
    case("four parts", format!("{good}.x"), "token_malformed", shape);
    case("padding", format!("{good}="), "token_malformed", "base64url has no padding");
    case(
        "trailing bits that are not zero",
        {
            let last = good.chars().last().unwrap();
            let other = if last == 'A' { 'B' } else { char::from(u8::try_from(last).unwrap() + 1) };
            format!("{}{other}", &good[..good.len() - 1])
        },
        "token_malformed",
        "trailing bits of base64url are zero",
    );
    case("a line break at the end", format!("{good}\n"), "token_malformed", "base64url has no white space");
    case(
        "a payload that is not base64url",
        raw_jws(usual.as_bytes(), "e30=", &world.token),
        "token_malformed",
        "base64url has no padding",
    );
    case(
        "longer than 4096 bytes",
        "a".repeat(4097),
        "token_too_large",
        "a token is at most 4096 bytes; its length is compared first",
    );

    let claim = "a claim is not of its type";
    case(
        "claims that are an array",
        signed(r#"["https://control.example","tok_a","dep_a",1,1,2,1]"#),
        "token_malformed",
        "claims are an object",
    );
    case(
        "a byte order mark before the claims",
        signed(&format!("\u{feff}{claims}")),
        "token_malformed",
        "a text has no byte order mark",
    );
    case(
        "text behind the claims",
        signed(&format!("{claims}x")),
        "token_malformed",
        "the payload is one object",
    );
    case(
        "claims that are not UTF-8",
        {
            let mut bytes = replaced(&claims, "{", r#"{"x":"?","#).into_bytes();
            bytes[6] = 0xff;
            sign(Typ::DirectAccess, &bytes, &world.token)
        },
        "token_malformed",
        "a text is UTF-8 throughout",
    );
    for (name, from, to, why) in [
        ("gen with a fraction", r#""gen":1"#, r#""gen":1.0"#, claim),
        ("gen with an exponent", r#""gen":1"#, r#""gen":1e0"#, claim),
        ("gen as a text", r#""gen":1"#, r#""gen":"1""#, claim),
        ("gen below zero", r#""gen":1"#, r#""gen":-1"#, claim),
        ("gen is minus zero", r#""gen":1"#, r#""gen":-0"#, claim),
        ("gen beyond 32 bits", r#""gen":1"#, r#""gen":4294967296"#, claim),
        ("gen twice", r#""gen":1"#, r#""gen":1,"gen":1"#, "a claim stands twice"),
        ("no gen", r#""gen":1,"#, "", "a required claim is missing"),
        (
            "exp is null",
            r#""exp":1802592000"#,
            r#""exp":null"#,
            "a direct-access token has exp; null is the same as none",
        ),
        ("no exp", r#""exp":1802592000,"#, "", "a direct-access token has exp"),
        ("exp beyond 64 bits", r#""exp":1802592000"#, r#""exp":9223372036854775808"#, claim),
        ("aud is an array", r#""aud":"dep_a""#, r#""aud":["dep_a"]"#, "aud is one text"),
        (
            "sub is no identifier",
            r#""sub":"tok_"#,
            r#""sub":"tok "#,
            "an id has letters, digits, _ and - only",
        ),
        (
            "sub is empty",
            &claims[claims.find(r#""sub""#).unwrap()..claims.find(r#","aud""#).unwrap()],
            r#""sub":"""#,
            "an id has 1 to 64 characters",
        ),
        ("a role version with a leading zero", "@1\"", "@01\"", "a role name has one spelling"),
        ("a role version of zero", "@1\"", "@0\"", "role versions begin at 1"),
        ("a role without a version", "@1\"", "\"", "a role name is NAME@VERSION"),
        ("an unknown member in role", r#""role":{"#, r#""role":{"x":1,"#, "role is a closed object"),
    ] {
        case(name, signed(&replaced(&claims, from, to)), "token_malformed", why);
    }
    let role = claims.find(r#","role""#).unwrap();
    case(
        "no role",
        signed(&format!("{}}}", &claims[..role])),
        "token_malformed",
        "a direct-access token has a role",
    );
    case(
        "a role digest of 31 bytes",
        signed(&{
            let at = claims.find(r#""digest":""#).unwrap() + 10;
            format!("{}{}{}", &claims[..at], base64([0; 31]), &claims[at + 43..])
        }),
        "token_malformed",
        "a hash has 32 bytes",
    );
    vectors.hold();
}
