/* Random words: the operating system's, or blake2b in counter mode under a key (RFC 7693), so that a seed gives the same words
   in every process. Word i is bytes [8i, 8i + 8) of the blocks blake2b(key, counter as 16 bytes), 64 bytes each. */
#define _GNU_SOURCE
#include "core.h"
#include <errno.h>
#include <string.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <stdlib.h>
#endif

static const uint64_t initial[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                                    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
static const uint8_t order[12][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3}};

static inline uint64_t rotated(uint64_t x, int n) { return x >> n | x << (64 - n); }

static void compress(uint64_t state[8], const uint8_t block[128], uint64_t count, int last) {
    uint64_t v[16], m[16];
    memcpy(m, block, sizeof m); /* little-endian machines only, as linear memory is little-endian, too */
    memcpy(v, state, 64);
    memcpy(v + 8, initial, 64);
    v[12] ^= count;
    if (last) v[14] = ~v[14];
    for (int round = 0; round < 12; round++) {
        const uint8_t *s = order[round];
#define MIX(a, b, c, d, x, y) \
    a += b + (x), d = rotated(d ^ a, 32), c += d, b = rotated(b ^ c, 24), a += b + (y), d = rotated(d ^ a, 16), c += d, \
                  b = rotated(b ^ c, 63)
        MIX(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]]);
        MIX(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]]);
        MIX(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]]);
        MIX(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]]);
        MIX(v[0], v[5], v[10], v[15], m[s[8]], m[s[9]]);
        MIX(v[1], v[6], v[11], v[12], m[s[10]], m[s[11]]);
        MIX(v[2], v[7], v[8], v[13], m[s[12]], m[s[13]]);
        MIX(v[3], v[4], v[9], v[14], m[s[14]], m[s[15]]);
    }
    for (int i = 0; i < 8; i++) state[i] ^= v[i] ^ v[i + 8];
}

/* blake2b with a digest of 64 bytes and a key of 32, of a message of 16 bytes. */
static void keyed_block(const uint64_t key[4], uint64_t counter, uint8_t digest[64]) {
    uint64_t state[8];
    uint8_t block[128] = {0};
    memcpy(state, initial, sizeof state);
    state[0] ^= 0x01010000 ^ 32 << 8 ^ 64;
    memcpy(block, key, 32);
    compress(state, block, 128, 0);
    memset(block, 0, sizeof block);
    memcpy(block, &counter, sizeof counter);
    compress(state, block, 144, 1);
    memcpy(digest, state, 64);
}

static void system_random(uint8_t *to, size_t size) {
#if defined(__linux__)
    while (size) {
        long got = syscall(SYS_getrandom, to, size, 0); /* glibc has no function for it before 2.25 */
        if (got > 0) to += got, size -= (size_t)got;
        else if (errno != EINTR) __builtin_trap(); /* every supported kernel has getrandom; without it nothing can go on */
    }
#else
    arc4random_buf(to, size);
#endif
}

uint64_t random_word(struct guest *guest) {
    uint64_t drawn = guest->words[WORD_DRAWN]++, word;
    if (guest->words[WORD_SEEDED]) {
        uint64_t wanted[6] = {1, 0, 0, 0, 0, drawn / 8};
        memcpy(wanted + 1, guest->words + WORD_KEY, 32); /* compared each time: Python may have changed the key or the position */
        if (memcmp(guest->chunk_of, wanted, sizeof wanted)) {
            keyed_block(guest->words + WORD_KEY, drawn / 8, guest->chunk);
            memcpy(guest->chunk_of, wanted, sizeof wanted);
        }
        memcpy(&word, guest->chunk + 8 * (drawn % 8), 8);
        return word;
    }
    if (guest->chunk_of[0]) guest->chunk_left = 0, guest->chunk_of[0] = 0; /* drop a block that was made from a key */
    if (!guest->chunk_left) system_random(guest->chunk, sizeof guest->chunk), guest->chunk_left = 8;
    guest->chunk_left--;
    memcpy(&word, guest->chunk + 8 * guest->chunk_left, 8);
    memset(guest->chunk + 8 * guest->chunk_left, 0, 8); /* a word that has been used must not be found in memory */
    return word;
}
