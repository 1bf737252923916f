/* memcpy, memmove and memset, linked before the C library's. Those use memory.copy and memory.fill, which wasmtime runs in
   native code: a page guard (metering="guard") may stop compiled code anywhere, but never native code, so that the image
   must not contain them. The build refuses an image that does.

   Up to 64 bytes everything is loaded before anything is stored, so that an overlap does no harm; the last piece
   overlaps the one before it rather than be cut into smaller ones. */
#include <stddef.h>
#include <stdint.h>
#include <wasm_simd128.h>

/* Or else the compiler would find a memcpy in these loops, and call it. */
#define MEMORY __attribute__((target("simd128"), no_builtin("memcpy", "memmove", "memset")))
#define INLINE static inline __attribute__((always_inline, target("simd128")))

typedef uint64_t __attribute__((aligned(1), may_alias)) u64;
typedef uint32_t __attribute__((aligned(1), may_alias)) u32;
typedef uint16_t __attribute__((aligned(1), may_alias)) u16;

INLINE v128_t load(const uint8_t *s) { return wasm_v128_load(s); }
INLINE void store(uint8_t *d, v128_t v) { wasm_v128_store(d, v); }

INLINE void move64(uint8_t *d, const uint8_t *s) {
    v128_t a = load(s), b = load(s + 16), c = load(s + 32), e = load(s + 48);
    store(d, a), store(d + 16, b), store(d + 32, c), store(d + 48, e);
}

INLINE void move_small(uint8_t *d, const uint8_t *s, size_t n) {
    if (n >= 8) {
        if (n > 16) {
            v128_t a = load(s), b = load(s + n - 16);
            store(d, a), store(d + n - 16, b);
            return;
        }
        uint64_t a = *(const u64 *)s, b = *(const u64 *)(s + n - 8);
        *(u64 *)d = a, *(u64 *)(d + n - 8) = b;
    } else if (n >= 4) {
        uint32_t a = *(const u32 *)s, b = *(const u32 *)(s + n - 4);
        *(u32 *)d = a, *(u32 *)(d + n - 4) = b;
    } else if (n >= 2) {
        uint16_t a = *(const u16 *)s, b = *(const u16 *)(s + n - 2);
        *(u16 *)d = a, *(u16 *)(d + n - 2) = b;
    } else if (n) {
        *d = *s;
    }
}

INLINE void move_middle(uint8_t *d, const uint8_t *s, size_t n) { /* 33 to 64 */
    v128_t a = load(s), b = load(s + 16), c = load(s + n - 32), e = load(s + n - 16);
    store(d, a), store(d + 16, b), store(d + n - 32, c), store(d + n - 16, e);
}

INLINE void move_up(uint8_t *d, const uint8_t *s, size_t n) {
    size_t at = 0;
    v128_t a = load(s + n - 64), b = load(s + n - 48), c = load(s + n - 32), e = load(s + n - 16);
    for (; at < n - 64; at += 64) move64(d + at, s + at);
    d += n;
    store(d - 64, a), store(d - 48, b), store(d - 32, c), store(d - 16, e);
}

INLINE void move_down(uint8_t *d, const uint8_t *s, size_t n) {
    v128_t a = load(s), b = load(s + 16), c = load(s + 32), e = load(s + 48);
    for (size_t at = n; at > 64; at -= 64) move64(d + at - 64, s + at - 64);
    store(d, a), store(d + 16, b), store(d + 32, c), store(d + 48, e);
}

MEMORY void *memcpy(void *restrict to, const void *restrict from, size_t n) {
    if (n <= 32) move_small(to, from, n);
    else if (n <= 64) move_middle(to, from, n);
    else move_up(to, from, n);
    return to;
}

MEMORY void *memmove(void *to, const void *from, size_t n) {
    uint8_t *d = to;
    const uint8_t *s = from;
    if (n <= 32) move_small(d, s, n);
    else if (n <= 64) move_middle(d, s, n);
    else if ((uintptr_t)d - (uintptr_t)s >= n) move_up(d, s, n);
    else move_down(d, s, n);
    return to;
}

MEMORY void *memset(void *to, int byte, size_t n) {
    uint8_t *d = to, *end = d + n;
    uint64_t word = (uint8_t)byte * 0x0101010101010101u;
    if (n < 16) {
        if (n >= 8) {
            *(u64 *)d = word, *(u64 *)(end - 8) = word;
        } else if (n >= 4) {
            *(u32 *)d = (uint32_t)word, *(u32 *)(end - 4) = (uint32_t)word;
        } else if (n) {
            d[0] = d[n / 2] = end[-1] = (uint8_t)byte;
        }
        return to;
    }
    v128_t v = wasm_i8x16_splat((int8_t)byte);
    for (; n > 64; d += 64, n -= 64) store(d, v), store(d + 16, v), store(d + 32, v), store(d + 48, v);
    if (n > 32) store(d, v), store(d + 16, v), store(end - 32, v);
    else if (n > 16) store(d, v);
    store(end - 16, v);
    return to;
}
