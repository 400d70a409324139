"""Writes pairing-vectors.txt: what follows from the secret of a pairing, by HKDF (RFC 5869), HMAC (RFC 2104) and bech32m (BIP 350) written out
from their specifications with the standard library only. Run it in this directory: python3 pairing-vectors.py > pairing-vectors.txt"""
import base64, contextlib, hashlib, hmac, io

# The same HKDF and bech32m as of tokens; what that script prints is not wanted here.
with contextlib.redirect_stdout(io.StringIO()):
    import vectors

secret = bytes(range(16))
# The first public key of RFC 8032, 7.1.
machine = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
sender, exporter, nonce = bytes([6] * 32), bytes([5] * 32), bytes([9] * 16)
key = lambda info, length: vectors.hkdf(b"kairn pairing 1", secret, info, length)
mac = lambda name, parts: hmac.new(key(name, 32), name + b"\0" + b"".join(parts), hashlib.sha256).digest()

print("label", base64.b32encode(key(b"discovery label", 5)).decode().lower())
print("proof", mac(b"proof", [exporter, sender, machine]).hex())
print("code", f"{int.from_bytes(mac(b'code', [exporter, sender, machine, nonce])[:8], 'big') % 1_000_000:06}")
address = bytes([4, 192, 0, 2, 7])
print("text", vectors.bech32m("kairnpair", 0, secret + machine + (7940).to_bytes(2, "big") + address))
