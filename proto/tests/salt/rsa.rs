//! `rsa_keys.json`, `rsa_ops.json`: keys, fingerprints, signatures, OAEP, X9.31.

use halite_proto::salt::rsa::{BadRsaKey, EncAlgo, PrivateKey, PublicKey, Refused, SigAlgo};

use crate::vectors::{every_cut, every_flip, file, hex, items, private, public, text};

#[test]
fn keys_are_read_and_named_as_salt_does() {
    let file = file("rsa_keys");
    for (name, key) in file["keys"].as_object().unwrap() {
        let private = private(name);
        let public = PublicKey::from_pem(text(key, "public_pem")).unwrap();
        assert_eq!(public.pem(), text(key, "clean_key"), "{name}");
        assert_eq!(public.fingerprint().as_str(), text(key, "finger_sha256"), "{name}");
        assert_eq!(private.public(), &public, "{name}");
        assert_eq!(private.public().pem(), public.pem(), "{name}");
    }
}

#[test]
fn a_key_that_is_none_is_refused() {
    let file = file("rsa_keys");
    let protected = text(&file["keys"]["passphrase_protected"], "private_pem");
    assert_eq!(PrivateKey::from_pem(protected, None).unwrap_err(), BadRsaKey::NotRsa);
    assert_eq!(PrivateKey::from_pem(protected, Some("wrong")).unwrap_err(), BadRsaKey::NotRsa);
    assert_eq!(PublicKey::from_pem("").unwrap_err(), BadRsaKey::NotRsa);
    assert_eq!(PublicKey::from_pem(&"x".repeat(100_000)).unwrap_err(), BadRsaKey::TooLarge);
    let native = halite_proto::keys::public_pem(&[7; 32]);
    assert_eq!(PublicKey::from_pem(&native).unwrap_err(), BadRsaKey::NotRsa);
    // RSA with 512 bits.
    let small = "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBANDiE2+Xi/WnO+s120NiiJhNyIButVu6\n\
                 zxqlVzz0wy2j4kQVUC4ZRZD80IY+4wIiX2YxKBZKGnd2TtPkcJ/ljkUCAwEAAQ==\n-----END PUBLIC KEY-----";
    assert_eq!(PublicKey::from_pem(small).unwrap_err(), BadRsaKey::Size);
}

#[test]
fn other_forms_of_a_key_are_the_same_key() {
    let key = openssl::rsa::Rsa::private_key_from_pem(pem("master").as_bytes()).unwrap();
    let pkcs1 = String::from_utf8(key.public_key_to_pem_pkcs1().unwrap()).unwrap();
    assert_eq!(PublicKey::from_pem(&pkcs1).unwrap(), public("master"));
    let amid =
        format!("# a note\r\n{}\r\n", text(&file("rsa_keys")["keys"]["master"], "public_pem").replace('\n', "\r\n"));
    assert_eq!(PublicKey::from_pem(&amid).unwrap().pem(), public("master").pem());
    let pkcs8 = openssl::pkey::PKey::from_rsa(key).unwrap().private_key_to_pem_pkcs8().unwrap();
    let pkcs8 = PrivateKey::from_pem(&String::from_utf8(pkcs8).unwrap(), None).unwrap();
    assert_eq!(pkcs8.public(), &public("master"));
}

fn pem(name: &str) -> String {
    text(&file("rsa_keys")["keys"][name], "private_pem").to_owned()
}

#[test]
fn operations_give_salts_bytes() {
    for op in items(&file("rsa_ops")["ops"]) {
        let (private, public) = (private(text(op, "key")), public(text(op, "key")));
        match text(op, "op") {
            "sign" => {
                let algo = SigAlgo::parse(text(op, "algorithm")).unwrap();
                let (message, signature) = (hex(op, "message_hex"), hex(op, "signature_hex"));
                assert_eq!(private.sign(algo, &message), signature);
                assert_eq!(public.verify(algo, &message, &signature), Ok(()));
                every_flip(&signature, |bad| public.verify(algo, &message, bad) == Err(Refused));
                every_cut(&signature, |bad| public.verify(algo, &message, bad) == Err(Refused));
            }
            "encrypt" => {
                let algo = EncAlgo::parse(text(op, "algorithm")).unwrap();
                let (plain, sealed) = (hex(op, "plaintext_hex"), hex(op, "ciphertext_hex"));
                assert_eq!(*private.decrypt(algo, &sealed).unwrap(), plain);
                let again = public.encrypt(algo, &plain).unwrap();
                assert_ne!(again, sealed, "OAEP is randomised");
                assert_eq!(*private.decrypt(algo, &again).unwrap(), plain);
                // A private operation is too slow for each bit: one in each byte.
                for at in 0..sealed.len() {
                    let mut bad = sealed.clone();
                    bad[at] ^= 1 << (at % 8);
                    assert_eq!(private.decrypt(algo, &bad), Err(Refused));
                }
                assert_eq!(private.decrypt(algo, &sealed[1..]), Err(Refused));
            }
            "x931_private_encrypt" => {
                let (message, proof) = (hex(op, "message_hex"), hex(op, "output_hex"));
                assert_eq!(private.seal_x931(&message).unwrap(), proof);
                assert_eq!(public.open_x931(&proof).unwrap(), message);
                every_flip(&proof, |bad| public.open_x931(bad).as_ref() != Ok(&message));
                every_cut(&proof, |bad| public.open_x931(bad) == Err(Refused));
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn algorithms_are_not_taken_for_each_other() {
    let (private, public) = (private("master"), public("master"));
    let signature = private.sign(SigAlgo::Pkcs1v15Sha1, b"m");
    assert_eq!(public.verify(SigAlgo::Pkcs1v15Sha224, b"m", &signature), Err(Refused));
    let sealed = public.encrypt(EncAlgo::OaepSha1, b"m").unwrap();
    assert_eq!(private.decrypt(EncAlgo::OaepSha224, &sealed), Err(Refused));
    assert_eq!((SigAlgo::parse("PKCS1v15-MD5"), EncAlgo::parse("OAEP-SHA256")), (None, None));
}

#[test]
fn what_does_not_fit_the_modulus_is_refused() {
    let (private, public) = (private("master"), public("master"));
    assert_eq!(public.encrypt(EncAlgo::OaepSha1, &[7; 215]), Err(Refused));
    assert_eq!(private.seal_x931(&[7; 255]), Err(Refused));
    // The longest one has the short header of X9.31.
    let proof = private.seal_x931(&[7; 254]).unwrap();
    assert_eq!(public.open_x931(&proof).unwrap(), vec![7; 254]);
}

#[test]
fn a_proof_has_one_length() {
    let (private, public) = (private("master"), public("master"));
    // About every seventieth proof begins with a zero; without it the number is the same.
    let proofs = (0..2000_u32).map(|number| private.seal_x931(&number.to_be_bytes()).unwrap());
    let proof = proofs.into_iter().find(|proof| proof[0] == 0).unwrap();
    assert!(public.open_x931(&proof).is_ok());
    assert_eq!(public.open_x931(&proof[1..]), Err(Refused));
    assert_eq!(public.open_x931(&[&[0], &proof[..]].concat()), Err(Refused));
}

#[test]
fn debug_names_a_key_and_shows_none_of_it() {
    let private = private("master");
    let shown = format!("{private:?}");
    assert_eq!(shown, format!("PrivateKey(of {})", private.public().fingerprint()));
}
