//! The commands (Part 3), and the shapes of the two objects that they make (Part 2, section 12.2).

use crate::wire::Writer;

pub(crate) const CREATE_PRIMARY: u32 = 0x131;
pub(crate) const CREATE: u32 = 0x153;
pub(crate) const LOAD: u32 = 0x157;
pub(crate) const UNSEAL: u32 = 0x15e;
const FLUSH_CONTEXT: u32 = 0x165;
const START_AUTH_SESSION: u32 = 0x176;

const NO_SESSIONS: u16 = 0x8001;
pub(crate) const SESSIONS: u16 = 0x8002;

const OWNER: u32 = 0x4000_0001;
const NULL: u32 = 0x4000_0007;
const PASSWORD: u32 = 0x4000_0009;

const ALG_AES: u16 = 0x0006;
const ALG_KEYEDHASH: u16 = 0x0008;
pub(crate) const ALG_SHA256: u16 = 0x000b;
const ALG_NULL: u16 = 0x0010;
const ALG_ECC: u16 = 0x0023;
const ALG_CFB: u16 = 0x0043;
const CURVE_P256: u16 = 0x0003;

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt.
const STORAGE_KEY: u32 = 0x0003_0472;
/// fixedTPM, fixedParent, userWithAuth, noDA: whoever can load it can unseal it, and wrong passwords do not lock it.
const SEALED_DATA: u32 = 0x0000_0452;

/// Bytes of a coordinate of the curve.
pub(crate) const COORDINATE: usize = 32;
/// The longest command and answer: what the kernel's driver takes (TPM_BUFSIZE).
pub(crate) const LONGEST: usize = 4096;

/// A command with its header.
fn whole(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len().saturating_add(10)).unwrap_or(u32::MAX);
    Writer::default().u16(tag).u32(length).u32(code).raw(body).0
}

/// A command with one area of authorization.
pub(crate) fn authorized(code: u32, handle: u32, authorization: &[u8], parameters: &[u8]) -> Vec<u8> {
    let length = u32::try_from(authorization.len()).unwrap_or(u32::MAX);
    whole(SESSIONS, code, &Writer::default().u32(handle).u32(length).raw(authorization).raw(parameters).0)
}

/// The storage key's public part up to where its own point stands: the template for ECC on P-256 of the TPM v2.0 Provisioning Guidance
/// (TCG, section 7.5.1), which differs from template L-2 of the EK Credential Profile in its attributes and its policy.
pub(crate) fn storage_key() -> Vec<u8> {
    let key = Writer::default().u16(ALG_ECC).u16(ALG_SHA256).u32(STORAGE_KEY).sized(&[]);
    key.u16(ALG_AES).u16(128).u16(ALG_CFB).u16(ALG_NULL).u16(CURVE_P256).u16(ALG_NULL).0
}

/// The public part of sealed data up to where its own digest stands.
pub(crate) fn sealed_data() -> Vec<u8> {
    Writer::default().u16(ALG_KEYEDHASH).u16(ALG_SHA256).u32(SEALED_DATA).sized(&[]).u16(ALG_NULL).0
}

/// No outside information, no registers.
fn no_creation(parameters: Writer) -> Vec<u8> {
    parameters.sized(&[]).u32(0).0
}

/// Derives the storage key of the owner hierarchy, whose password is empty.
pub(crate) fn create_primary() -> Vec<u8> {
    let zero = [0; COORDINATE];
    let public = Writer(storage_key()).sized(&zero).sized(&zero).0;
    let no_password = Writer::default().u32(PASSWORD).sized(&[]).u8(0).sized(&[]).0;
    // The key has neither a password nor data of its own.
    let sensitive = Writer::default().sized(&[]).sized(&[]).0;
    let parameters = no_creation(Writer::default().sized(&sensitive).sized(&public));
    authorized(CREATE_PRIMARY, OWNER, &no_password, &parameters)
}

/// Begins a session of HMACs whose secret is sent to a key of the TPM.
pub(crate) fn start_session(key: u32, nonce: &[u8], (x, y): (&[u8], &[u8])) -> Vec<u8> {
    let salt = Writer::default().sized(x).sized(y).0;
    let body = Writer::default().u32(key).u32(NULL).sized(nonce).sized(&salt).u8(0);
    whole(NO_SESSIONS, START_AUTH_SESSION, &body.u16(ALG_AES).u16(128).u16(ALG_CFB).u16(ALG_SHA256).0)
}

/// What seals a secret: the parameters of `Create`.
pub(crate) fn create(secret: &[u8]) -> Vec<u8> {
    let sensitive = Writer::default().sized(&[]).sized(secret).0;
    // Its digest is the TPM's to fill in.
    let public = Writer(sealed_data()).sized(&[]).0;
    no_creation(Writer::default().sized(&sensitive).sized(&public))
}

/// The parameters of `Load`.
pub(crate) fn load(private: &[u8], public: &[u8]) -> Vec<u8> {
    Writer::default().sized(private).sized(public).0
}

/// Forgets an object or a session.
pub(crate) fn flush(handle: u32) -> Vec<u8> {
    whole(NO_SESSIONS, FLUSH_CONTEXT, &handle.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_storage_key_is_the_one_of_the_guidance() {
        let expected = concat!(
            "80020000008300000131",
            "40000001",
            "00000009",
            "40000009000000",
            "0000",         // header, owner, password session
            "000400000000", // no password, no data
            "005a0023000b00030472",
            "0000",
            "00060080004300100003",
            "0010", // ECC, SHA-256, attributes, policy, AES-128-CFB, P-256
        );
        let command = hex::encode(create_primary());
        assert_eq!(&command[..expected.len()], expected);
        assert_eq!(command.len() / 2, 0x83);
        assert_eq!(hex::encode(flush(0x8000_0000)), "80010000000e0000016580000000");
    }
}
