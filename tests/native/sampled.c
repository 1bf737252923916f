/* Samplers: what they find in a guest's memory, whatever is there. */
#include "fake.h"
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MS = 1000000 };
/* Where the parts of the made-up interpreter are. */
enum {
    CURRENT = FAKE_HEAP,
    OUTER = FAKE_HEAP + 0x100, /* frames */
    INNER = FAKE_HEAP + 0x140,
    OF_C = FAKE_HEAP + 0x180,
    OUTER_CODE = FAKE_HEAP + 0x200,
    INNER_CODE = FAKE_HEAP + 0x280,
    FILE_TEXT = FAKE_HEAP + 0x300,
    OUTER_TEXT = FAKE_HEAP + 0x340,
    INNER_TEXT = FAKE_HEAP + 0x380,
    TABLE = FAKE_HEAP + 0x400,
    MANY = FAKE_HEAP + 0x1000,
    CODE_TYPE = 11,
    BYTES_TYPE = 12,
    TEXT_TYPE = 13,
    ASCII = 64,
    COMPACT = 32,
};
static uint32_t layout[LAYOUT_COUNT];
static struct cloche_image image;
static struct made guest;
static uint8_t *memory;

static void put(uint32_t address, uint32_t word) {
    __atomic_store_n((uint32_t *)(void *)(memory + address), word, __ATOMIC_RELAXED);
}

static void put_text(uint32_t address, const char *text) {
    put(address + layout[LAYOUT_OBJECT_TYPE], TEXT_TYPE);
    put(address + layout[LAYOUT_TEXT_LENGTH], (uint32_t)strlen(text));
    put(address + layout[LAYOUT_TEXT_STATE], ASCII | COMPACT | 1 << 2);
    memcpy(memory + address + layout[LAYOUT_TEXT_ASCII_DATA], text, strlen(text));
}

static void put_code(uint32_t address, uint32_t name, uint32_t line) {
    put(address + layout[LAYOUT_OBJECT_TYPE], CODE_TYPE);
    put(address + layout[LAYOUT_CODE_FILENAME], FILE_TEXT);
    put(address + layout[LAYOUT_CODE_QUALNAME], name);
    put(address + layout[LAYOUT_CODE_FIRSTLINENO], line);
    put(address + layout[LAYOUT_CODE_LINETABLE], TABLE);
}

static void put_frame(uint32_t address, uint32_t code, uint32_t previous, uint32_t offset) {
    put(address + layout[LAYOUT_FRAME_EXECUTABLE], code);
    put(address + layout[LAYOUT_FRAME_PREVIOUS], previous);
    put(address + layout[LAYOUT_FRAME_INSTR_PTR], code + layout[LAYOUT_CODE_INSTRUCTIONS] + offset);
    memory[address + layout[LAYOUT_FRAME_OWNER]] = 0;
}

/* A guest with two Python frames, and one of C code between them. */
static void set_up(void) {
    static const uint32_t words[LAYOUT_COUNT] = {
        [LAYOUT_CURRENT_FRAME] = CURRENT, [LAYOUT_FRAME_EXECUTABLE] = 0,
        [LAYOUT_FRAME_PREVIOUS] = 4,      [LAYOUT_FRAME_INSTR_PTR] = 8,
        [LAYOUT_FRAME_OWNER] = 12,        [LAYOUT_FRAME_OWNED_BY_CSTACK] = 3,
        [LAYOUT_OBJECT_TYPE] = 4,         [LAYOUT_OBJECT_SIZE] = 8,
        [LAYOUT_CODE_TYPE] = CODE_TYPE,   [LAYOUT_CODE_FILENAME] = 12,
        [LAYOUT_CODE_QUALNAME] = 16,      [LAYOUT_CODE_FIRSTLINENO] = 20,
        [LAYOUT_CODE_LINETABLE] = 24,     [LAYOUT_CODE_INSTRUCTIONS] = 32,
        [LAYOUT_BYTES_TYPE] = BYTES_TYPE, [LAYOUT_BYTES_DATA] = 12,
        [LAYOUT_TEXT_TYPE] = TEXT_TYPE,   [LAYOUT_TEXT_LENGTH] = 8,
        [LAYOUT_TEXT_STATE] = 12,         [LAYOUT_TEXT_KIND_SHIFT] = 2,
        [LAYOUT_TEXT_KIND_MASK] = 7,      [LAYOUT_TEXT_COMPACT_BIT] = COMPACT,
        [LAYOUT_TEXT_ASCII_BIT] = ASCII,  [LAYOUT_TEXT_ASCII_DATA] = 16,
        [LAYOUT_TEXT_DATA] = 20,
    };
    memcpy(layout, words, sizeof layout);
    image = fake_image(CLOCHE_GUARD);
    guest = make(&image);
    memory = (uint8_t *)(uintptr_t)guest.words[WORD_BASE];
    put_text(FILE_TEXT, "n.py"), put_text(OUTER_TEXT, "outer"), put_text(INNER_TEXT, "inner");
    put_code(OUTER_CODE, OUTER_TEXT, 10), put_code(INNER_CODE, INNER_TEXT, 20);
    put(TABLE + 4, BYTES_TYPE), put(TABLE + 8, 5);
    memcpy(memory + TABLE + 12, "\xd0\x00\xe0\x04\xf8", 5); /* two bytes each: the same line, two more, none */
    put_frame(OUTER, OUTER_CODE, 0, 2), put_frame(OF_C, 0, OUTER, 0), put_frame(INNER, INNER_CODE, OF_C, 0);
    memory[OF_C + layout[LAYOUT_FRAME_OWNER]] = 3;
    put(CURRENT, INNER);
}

static void tear_down(void) {
    SAME(cloche_free(guest.handle), CLOCHE_DONE);
    free(image.engine);
}

static int sampling(struct made one, int lane) {
    int number = cloche_sampler_begin(layout, LAYOUT_COUNT, MS / 4);
    CHECK(number > 0);
    STORE(one.words[WORD_SAMPLER], (uint64_t)number << 16 | (uint64_t)lane);
    return number;
}

static struct cloche_sampled_lane lane_of(int number, int lane) {
    struct cloche_sampled_lane found;
    SAME(cloche_sampled(number, CLOCHE_SAMPLED_LANE, (uint32_t)lane, &found, 1), 1);
    return found;
}

static void *looping(void *script) {
    CHECK(run(guest, script) <= CLOCHE_TRAPPED);
    return NULL;
}

/* Sample the guest while it runs, until that many samples are there; then stop it, and use it again. */
static void sample(int number, int lane, uint64_t samples) {
    pthread_t thread;
    samples += lane_of(number, lane).samples;
    SAME(pthread_create(&thread, NULL, looping, "h"), 0);
    while (lane_of(number, lane).samples < samples) sched_yield();
    guest.words[WORD_GRACE_NS] = 60ULL * SECOND;
    while (cloche_cancel(guest.handle, 0, CLOCHE_CANCELLED, 0) == CLOCHE_BUSY) sched_yield();
    pthread_join(thread, NULL);
    SAME(LOAD(guest.words[WORD_STATE]), CLOCHE_AT_REST);
}

CASE(a_sampler_finds_where_a_guest_is) {
    set_up();
    int number = sampling(guest, 7);
    while (lane_of(number, 7).rested < 3) sched_yield();
    SAME(lane_of(number, 7).samples, 0);
    sample(number, 7, 5);
    struct cloche_sampled_function functions[4];
    struct cloche_sampled_place places[4];
    static struct cloche_sampled_node nodes[CLOCHE_LANES + 4];
    SAME(cloche_sampled(number, CLOCHE_SAMPLED_NODE, 0, nodes, CLOCHE_LANES + 4), CLOCHE_LANES + 2);
    SAME(cloche_sampled(number, CLOCHE_SAMPLED_PLACE, 0, places, 4), 2);
    SAME(cloche_sampled(number, CLOCHE_SAMPLED_FUNCTION, 0, functions, 4), 2);
    SAME(nodes[CLOCHE_LANES].parent, 7), SAME(nodes[CLOCHE_LANES].place, 0), SAME(nodes[CLOCHE_LANES].samples, 0);
    SAME(nodes[CLOCHE_LANES + 1].parent, CLOCHE_LANES), SAME(nodes[CLOCHE_LANES + 1].place, 1);
    SAME(nodes[CLOCHE_LANES + 1].samples, lane_of(number, 7).samples);
    CHECK(nodes[CLOCHE_LANES + 1].spent_ns > 0);
    SAME(places[0].function, 0), SAME(places[0].line, 12); /* the second entry of the table */
    SAME(places[1].function, 1), SAME(places[1].line, 20);
    SAME(functions[0].first_line, 10), SAME(functions[0].name_bytes, 5), SAME(memcmp(functions[0].name, "outer", 5), 0);
    SAME(functions[1].file_bytes, 4), SAME(memcmp(functions[1].file, "n.py", 4), 0);
    SAME(lane_of(number, 7).torn + lane_of(number, 7).lost + lane_of(number, 7).cut + lane_of(number, 7).full, 0);
    SAME(cloche_sampled(number, CLOCHE_SAMPLED_PLACE, 1, places, 4), 1);
    SAME(cloche_sampled(number, CLOCHE_SAMPLED_PLACE, 9, places, 4), 0);
    SAME(cloche_sampled(number, 4, 0, places, 4), CLOCHE_REFUSED);
    SAME(cloche_sampler_end(number), CLOCHE_DONE);
    while (cloche_sampler_end(number) != CLOCHE_REFUSED) sched_yield();
    SAME(cloche_sampled(number, CLOCHE_SAMPLED_LANE, 0, places, 1), CLOCHE_REFUSED);
    tear_down();
}

/* One change to a guest's memory, and what becomes of the samples. */
struct attack {
    uint32_t address, word;
    enum { IS_LOST, IS_SEEN, IS_CUT } end;
};
CASE(a_sampler_believes_no_address) {
    set_up();
    int number = sampling(guest, 0);
    const uint32_t end = FAKE_PAGES * PAGE;
    const struct attack attacks[] = {
        {CURRENT, 4, IS_LOST},          /* in the stop page */
        {CURRENT, end - 8, IS_LOST},    /* at the end of memory */
        {CURRENT, 0xffffffff, IS_LOST}, /* beyond it */
        {CURRENT, INNER + 1, IS_LOST},  /* not aligned */
        {INNER + 4, INNER, IS_CUT},     /* a circle */
        {OF_C + 4, OF_C, IS_CUT},       /* a circle of C code */
        {INNER, 0, IS_LOST},            /* no code */
        {INNER, end - 4, IS_LOST},
        {INNER, FILE_TEXT, IS_LOST},         /* something else */
        {INNER + 8, 0, IS_SEEN},             /* an instruction before the code */
        {INNER_CODE + 12, end - 4, IS_SEEN}, /* texts that are none */
        {INNER_CODE + 16, INNER_CODE, IS_SEEN},
        {INNER_TEXT + 8, 0xffffffff, IS_SEEN},                /* a text that is too long */
        {INNER_TEXT + 12, ASCII | COMPACT | 4 << 2, IS_SEEN}, /* characters that are none */
        {INNER_TEXT + 12, ASCII | COMPACT | 3 << 2, IS_SEEN},
        {INNER_CODE + 24, end - 8, IS_SEEN}, /* a table at the end of memory */
        {TABLE + 8, 0xffffffff, IS_SEEN},    /* and an endless one */
    };
    for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++) {
        uint32_t before;
        memcpy(&before, memory + attacks[i].address, sizeof before);
        put(attacks[i].address, attacks[i].word);
        STORE(guest.words[WORD_SAMPLER], (uint64_t)number << 16 | i);
        sample(number, (int)i, 2);
        struct cloche_sampled_lane found = lane_of(number, (int)i);
        SAME(found.lost, attacks[i].end == IS_LOST ? found.samples : 0);
        SAME(found.cut, attacks[i].end == IS_CUT ? found.samples : 0);
        put(attacks[i].address, before);
    }
    /* the most frames, each at a place of its own: what is noted is bounded, and so is what one sample looks up */
    uint32_t count = (end - MANY) / 16;
    for (uint32_t i = 0; i < count; i++) put_frame(MANY + 16 * i, INNER_CODE, i ? MANY + 16 * (i - 1) : 0, i);
    put(CURRENT, MANY + 16 * 400);
    STORE(guest.words[WORD_SAMPLER], (uint64_t)number << 16 | 100);
    sample(number, 100, 10);
    SAME(lane_of(number, 100).cut, 0);
    CHECK(lane_of(number, 100).full > 0 && lane_of(number, 100).full < lane_of(number, 100).samples);
    put(CURRENT, MANY + 16 * (count - 1));
    STORE(guest.words[WORD_SAMPLER], (uint64_t)number << 16 | 101);
    sample(number, 101, 10);
    SAME(lane_of(number, 101).cut, lane_of(number, 101).samples);
    STORE(guest.words[WORD_SAMPLER], (uint64_t)number << 16 | 0xffff); /* no lane */
    SAME(run(guest, "i1"), CLOCHE_DONE);
    SAME(cloche_sampler_end(number), CLOCHE_DONE);
    tear_down();
}

/* While one thread changes the frames all the time, no sample shows a function that was never below `outer`. */
static int stop_changing;
static void *changing(void *nothing) {
    for (uint32_t i = 0; !LOAD(stop_changing); i++) {
        put(CURRENT, i % 3 ? INNER : OUTER);
        put(INNER + 8, INNER_CODE + layout[LAYOUT_CODE_INSTRUCTIONS] + i % 5);
    }
    return nothing;
}
CASE(what_changes_while_it_is_read_is_not_believed) {
    set_up();
    int number = sampling(guest, 0);
    pthread_t changer;
    SAME(pthread_create(&changer, NULL, changing, NULL), 0);
    sample(number, 0, 300);
    STORE(stop_changing, 1);
    pthread_join(changer, NULL);
    STORE(guest.words[WORD_SAMPLER], 0);
    static struct cloche_sampled_node nodes[CLOCHE_LANES + 64];
    int count = cloche_sampled(number, CLOCHE_SAMPLED_NODE, 0, nodes, CLOCHE_LANES + 64);
    uint64_t samples = nodes[0].samples;
    for (int i = CLOCHE_LANES; i < count; i++) {
        samples += nodes[i].samples;
        SAME(nodes[i].parent, i == CLOCHE_LANES ? 0 : CLOCHE_LANES); /* outer is the first one found, and below it all are inner */
    }
    SAME(samples, lane_of(number, 0).samples);
    SAME(cloche_sampler_end(number), CLOCHE_DONE);
    tear_down();
}

CASE(samplers_are_counted) {
    set_up();
    int numbers[17];
    SAME(cloche_sampler_begin(layout, LAYOUT_COUNT - 1, MS), CLOCHE_REFUSED);
    SAME(cloche_sampler_begin(layout, LAYOUT_COUNT, 0), CLOCHE_REFUSED);
    SAME(cloche_sampler_begin(layout, LAYOUT_COUNT, UINT64_MAX), CLOCHE_REFUSED);
    STORE(fail_thread, 2); /* with the usual stack, too */
    SAME(cloche_sampler_begin(layout, LAYOUT_COUNT, MS), CLOCHE_NO_THREAD);
    for (int i = 0; i < 16; i++) CHECK((numbers[i] = cloche_sampler_begin(layout, LAYOUT_COUNT, MS)) > 0);
    SAME(cloche_sampler_begin(layout, LAYOUT_COUNT, MS), CLOCHE_BUSY);
    SAME(cloche_sampler_end(numbers[3]), CLOCHE_DONE);
    while ((numbers[16] = cloche_sampler_begin(layout, LAYOUT_COUNT, MS)) == CLOCHE_BUSY) sched_yield();
    CHECK(numbers[16] > numbers[15]);
    for (int i = 0; i < 17; i++)
        if (i != 3) SAME(cloche_sampler_end(numbers[i]), CLOCHE_DONE);
    SAME(cloche_sampler_end(0), CLOCHE_REFUSED);
    tear_down();
}

CASE(a_fork_leaves_samplers_to_the_parent) {
    set_up();
    int number = sampling(guest, 0), status;
    sample(number, 0, 2);
    pid_t child = fork();
    if (!child) {
        alarm(60);
        struct cloche_sampled_lane before = lane_of(number, 0); /* what was found is there; nothing is added */
        CHECK(before.samples >= 2);
        SAME(cloche_sampler_end(number), CLOCHE_DONE);
        SAME(cloche_sampler_end(number), CLOCHE_REFUSED);
        int own = sampling(guest, 0);
        sample(own, 0, 2);
        _exit(0);
    }
    SAME(waitpid(child, &status, 0), child);
    SAME(status, 0);
    sample(number, 0, 2);
    SAME(cloche_sampler_end(number), CLOCHE_DONE);
    tear_down();
}
