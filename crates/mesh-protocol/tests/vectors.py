"""Writes vectors.txt: the keys of a new and of an old token, by HKDF (RFC 5869) and bech32m (BIP 350) written out from their
specifications with the standard library only. Run it in this directory: python3 vectors.py > vectors.txt"""
import base64, hashlib, hmac, ipaddress, re

def hkdf(salt, secret, info, length):
    prk = hmac.new(salt, secret, hashlib.sha256).digest()
    out, block, n = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([n]), hashlib.sha256).digest()
        out, n = out + block, n + 1
    return out[:length]

# The public key of an Ed25519 seed (RFC 8032, 5.1.5), by affine additions.
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P

def add(one, other):
    (a, b), (c, d) = one, other
    e = D * a * b * c * d % P
    return (a * d + b * c) * pow(1 + e, -1, P) % P, (b * d + a * c) * pow(1 - e, -1, P) % P

def public(seed):
    scalar = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little")
    scalar = scalar & (1 << 254) - 8 | 1 << 254
    y = 4 * pow(5, -1, P) % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    point, sum = (x if x % 2 == 0 else P - x, y), (0, 1)
    while scalar:
        sum, point, scalar = add(sum, point) if scalar & 1 else sum, add(point, point), scalar >> 1
    return (sum[1] | (sum[0] & 1) << 255).to_bytes(32, "little")

def board(key, use):
    info = b"board " + use + bytes(1) + (20833).to_bytes(8, "big")
    return hkdf(key(b"rendezvous", 20), key(b"admission", 32), info, 32)

def show(name, salt, secret):
    key = lambda info, length: hkdf(salt, secret, info, length)
    prefix = b"\xfd" + key(b"ula prefix", 5) + bytes(2)
    five, six = bytes([5] * 32), bytes([6] * 32)
    host = hashlib.sha256(b"kairn mesh 1 address\0" + five).digest()[:8]
    for use, value in [
        ("network-id", key(b"network id", 16).hex()),
        ("ula-prefix", ipaddress.IPv6Address(prefix + bytes(8))),
        ("label", base64.b32encode(key(b"discovery label", 5)).decode().lower()),
        ("rendezvous", key(b"rendezvous", 20).hex()),
        ("admission", key(b"admission", 32).hex()),
        ("datagrams", key(b"datagrams", 32).hex()),
        ("wireguard", key(b"wireguard", 32).hex()),
        ("address-05", ipaddress.IPv6Address(prefix + host)),
        ("pair-05-06", hkdf(b"kairn mesh 1 pair", key(b"wireguard", 32), five + six, 32).hex()),
        ("board-target", hashlib.sha1(public(board(key, b"key"))).hexdigest()),
        ("board-seal", board(key, b"seal").hex()),
    ]:
        print(f"{name}.{use} {value}")

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

def polymod(values):
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate([0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3]):
            check ^= generator if top >> bit & 1 else 0
    return check

def bech32m(hrp, version, data):
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    values = [version] + [int(bits[at:at + 5], 2) for at in range(0, len(bits), 5)]
    head = [ord(c) >> 5 for c in hrp] + [0] + [ord(c) & 31 for c in hrp]
    check = polymod(head + values + [0] * 6) ^ 0x2BC830A3
    values += [check >> 5 * (5 - at) & 31 for at in range(6)]
    return hrp + "1" + "".join(ALPHABET[value] for value in values)

new = bytes(range(32))
old = re.search(r'"([^"]+)"', open("old-token.yaml").read()).group(1)
show("new", b"kairn mesh 1", new)
show("old", b"kairn mesh 1 old token", base64.b64decode("".join(old.split())))
print("new.text", bech32m("kairn", 0, new))
