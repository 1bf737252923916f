# Behind CPython's hashlib, without OpenSSL: the function that CPython 3.11 had for such a case.


def pbkdf2_hmac(hash_name, password, salt, iterations, dklen=None):
    """Password based key derivation function 2 (PKCS #5 v2.0) with HMAC as its pseudorandom function."""
    if not isinstance(hash_name, str):
        raise TypeError(hash_name)
    password, salt = bytes(memoryview(password)), bytes(memoryview(salt))
    inner = new(hash_name)  # noqa: F821
    outer = inner.copy()
    block = inner.block_size
    if len(password) > block:
        password = new(hash_name, password).digest()  # noqa: F821
    password += bytes(block - len(password))
    inner.update(bytes(byte ^ 0x36 for byte in password))
    outer.update(bytes(byte ^ 0x5C for byte in password))

    def pseudorandom(message):
        first, second = inner.copy(), outer.copy()
        first.update(message)
        second.update(first.digest())
        return second.digest()

    if iterations < 1:
        raise ValueError("iteration value must be greater than 0.")
    dklen = outer.digest_size if dklen is None else dklen
    if dklen < 1:
        raise ValueError("key length must be greater than 0.")
    key = b""
    count = 1
    while len(key) < dklen:
        previous = pseudorandom(salt + count.to_bytes(4, "big"))
        total = int.from_bytes(previous, "big")
        for _ in range(iterations - 1):
            previous = pseudorandom(previous)
            total ^= int.from_bytes(previous, "big")
        count += 1
        key += total.to_bytes(inner.digest_size, "big")
    return key[:dklen]
