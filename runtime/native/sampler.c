/* Samplers: where guests are in their Python code, seen from outside, some hundred times a second. It costs a guest nothing.

   A sampler is a thread with a tree: a node for each chain of callers, with how often it was found, and for how long. The guests that
   it looks at have its number in WORD_SAMPLER, with a *lane*, by which it tells them apart. The thread sleeps for a random part of
   the period, so that it does not beat in time with what it looks at; and each sample counts for the time since the one before.

   A guest's memory is hostile, and changes while it is read. So every address is checked, frames, texts and tables are bounded, and
   so is what one sample may look up that is new. The frames are read twice. Where both times agree they are believed; where they never
   do, what they have in common is: those frames were there all the time. Names and lines are copied out at the first sample that finds
   them: a code object that is freed later is not read again. A function is known by the address of its code and of what that refers
   to; another one at the same addresses takes its name, but these are all the same guest's, and it could name it so anyway.

   All of it happens under the timer's lock: so no guest is freed meanwhile, and a fork finds no sampler at work. */
#define _GNU_SOURCE
#include "core.h"
#include <stdlib.h>
#include <string.h>

enum {
    SAMPLERS = 16,
    FUNCTIONS = 2048,
    PLACES = 8192,
    NODES = 16384,
    FRAMES = 512,            /* of one stack: the innermost ones */
    TRIES = 4,               /* how often a stack is read again */
    FRESH = 64,              /* places that one sample may look up */
    TABLE_BYTES = 32 * 1024, /* bytes of line tables that it may look through */
    LATE = 8,                /* so many periods are counted at most, if the thread was kept from running */
    SHARE = 20,              /* it leaves the lock alone so many times as long as it had it: deadlines are kept under it, too */
    NO_INDEX = -1,
};

struct step {
    uint32_t frame, code, instruction;
};
struct key {
    uint32_t lane, code, file, name, table;
    int32_t first_line;
};
struct place_key {
    uint32_t function, offset;
};
struct node_key {
    uint32_t parent, place;
};

struct sampler {
    uint32_t number;
    int ending, orphaned;
    int64_t period, last;
    uint64_t random;
    uint32_t layout[LAYOUT_COUNT];
    pthread_cond_t wake;

    int functions, places, nodes;
    int fresh;      /* places that this sample may still look up */
    int table_left; /* and bytes of line tables */
    struct step steps[2][FRAMES];
    struct key keys[FUNCTIONS];
    struct cloche_sampled_function function[FUNCTIONS];
    struct cloche_sampled_place place[PLACES];
    struct cloche_sampled_node node[NODES]; /* the first ones are the roots of the lanes */
    struct cloche_sampled_lane lane[CLOCHE_LANES];
    uint16_t function_index[2 * FUNCTIONS], place_index[2 * PLACES], node_index[2 * NODES]; /* 0: free; index + 1 */
};

static struct sampler *samplers[SAMPLERS];
static uint32_t numbered;

/* ---- a guest's memory */
struct view {
    const uint8_t *base;
    uint64_t size;
    const uint32_t *layout;
};

static int byte_at(const struct view *view, uint64_t address, uint8_t *value) {
    if (address < STOP_PAGE + STOP_PAGE_BYTES || address >= view->size) return 0; /* the stop page may be inaccessible */
    *value = __atomic_load_n(view->base + address, __ATOMIC_RELAXED);
    return 1;
}

static int word_at(const struct view *view, uint64_t address, uint32_t *value) {
    if (address < STOP_PAGE + STOP_PAGE_BYTES || address % 4 || address + 4 > view->size) return 0;
    *value = __atomic_load_n((const uint32_t *)(const void *)(view->base + address), __ATOMIC_RELAXED);
    return 1;
}

static int has_type(const struct view *view, uint32_t object, int type) {
    uint32_t found;
    return word_at(view, (uint64_t)object + view->layout[LAYOUT_OBJECT_TYPE], &found) && found == view->layout[type];
}

/* ---- texts */
static int utf8(uint32_t character, char *to) {
    if (character > 0x10ffff || (character >= 0xd800 && character < 0xe000)) character = 0xfffd;
    if (character < 0x80) return to[0] = (char)character, 1;
    if (character < 0x800) return to[0] = (char)(0xc0 | character >> 6), to[1] = (char)(0x80 | (character & 63)), 2;
    int count = character < 0x10000 ? 3 : 4;
    to[0] = (char)(count == 3 ? 0xe0 | character >> 12 : 0xf0 | character >> 18);
    for (int i = 1; i < count; i++) to[i] = (char)(0x80 | (character >> 6 * (count - 1 - i) & 63));
    return count;
}

/* Copy the first characters of a text object; how many bytes that are, 0: there is none. */
static uint32_t copy_text(const struct view *view, uint32_t object, char *to) {
    const uint32_t *layout = view->layout;
    uint32_t state, length, bytes = 0;
    if (!has_type(view, object, LAYOUT_TEXT_TYPE) || !word_at(view, (uint64_t)object + layout[LAYOUT_TEXT_STATE], &state) ||
        !word_at(view, (uint64_t)object + layout[LAYOUT_TEXT_LENGTH], &length) || !(state & layout[LAYOUT_TEXT_COMPACT_BIT]))
        return 0;
    uint32_t kind = state >> layout[LAYOUT_TEXT_KIND_SHIFT] & layout[LAYOUT_TEXT_KIND_MASK];
    if (kind != 1 && kind != 2 && kind != 4) return 0;
    uint64_t at = (uint64_t)object + layout[state & layout[LAYOUT_TEXT_ASCII_BIT] ? LAYOUT_TEXT_ASCII_DATA : LAYOUT_TEXT_DATA];
    if (length > CLOCHE_TEXT_CHARACTERS) length = CLOCHE_TEXT_CHARACTERS;
    for (uint32_t i = 0; i < length; i++) {
        uint32_t character = 0;
        for (uint32_t part = 0; part < kind; part++) {
            uint8_t byte;
            if (!byte_at(view, at + i * kind + part, &byte)) return 0;
            character |= (uint32_t)byte << 8 * part;
        }
        bytes += (uint32_t)utf8(character, to + bytes);
    }
    return bytes;
}

/* ---- lines: the table's format is in CPython 3.13's Objects/locations.md */
struct table {
    const struct view *view;
    uint64_t at, end;
    int *left;
};

static int next_byte(struct table *table, uint8_t *byte) {
    return table->at < table->end && --*table->left >= 0 && byte_at(table->view, table->at++, byte);
}

static int next_signed(struct table *table, int32_t *value) {
    uint32_t number = 0;
    uint8_t byte;
    for (int shift = 0; shift <= 30; shift += 6) {
        if (!next_byte(table, &byte)) return 0;
        number |= (uint32_t)(byte & 63) << shift;
        if (byte & 64) continue;
        *value = number & 1 ? -(int32_t)(number >> 1) : (int32_t)(number >> 1);
        return 1;
    }
    return 0;
}

/* The line of an instruction; 0: unknown. */
static int32_t line_of(const struct view *view, const struct key *key, uint32_t offset, int *left) {
    enum { ONE_LINE_0 = 10, ONE_LINE_2 = 12, NO_COLUMNS = 13, LONG = 14, NONE = 15 };
    uint32_t size;
    if (!has_type(view, key->table, LAYOUT_BYTES_TYPE)) return 0;
    if (!word_at(view, (uint64_t)key->table + view->layout[LAYOUT_OBJECT_SIZE], &size)) return 0;
    uint64_t begin = (uint64_t)key->table + view->layout[LAYOUT_BYTES_DATA];
    struct table table = {view, begin, begin + size, left};
    uint32_t line = (uint32_t)key->first_line;
    uint8_t byte, skipped;
    for (uint64_t start = 0; next_byte(&table, &byte);) {
        int kind = byte >> 3 & 15;
        int32_t more = 0;
        if (kind == NO_COLUMNS || kind == LONG) {
            if (!next_signed(&table, &more)) return 0;
        } else if (kind >= ONE_LINE_0 && kind <= ONE_LINE_2) {
            more = kind - ONE_LINE_0;
        }
        line += (uint32_t)more;
        start += 2 * ((byte & 7) + 1);
        if (offset < start) return kind == NONE || line > INT32_MAX ? 0 : (int32_t)line;
        while (table.at < table.end && byte_at(view, table.at, &skipped) && !(skipped & 128))
            if (!next_byte(&table, &skipped)) return 0;
    }
    return 0;
}

/* ---- what is known */
static uint32_t hash(const void *key, size_t words) {
    const uint32_t *each = key;
    uint64_t sum = words;
    for (size_t i = 0; i < words; i++) sum = (sum ^ each[i]) * 0x9e3779b97f4a7c15, sum ^= sum >> 29;
    return (uint32_t)(sum >> 16);
}

/* The place in an index of a key: where it is, or where it belongs. */
static uint16_t *slot_of(uint16_t *index, uint32_t slots, const void *key, const void *keys, size_t key_bytes, size_t item_bytes) {
    for (uint32_t at = hash(key, key_bytes / sizeof(uint32_t)) % slots;; at = (at + 1) % slots) {
        if (!index[at] || !memcmp((const char *)keys + (size_t)(index[at] - 1) * item_bytes, key, key_bytes)) return &index[at];
    }
}

static int function_of(struct sampler *sampler, const struct view *view, const struct key *key) {
    uint16_t *slot = slot_of(sampler->function_index, 2 * FUNCTIONS, key, sampler->keys, sizeof *key, sizeof *key);
    if (*slot) return *slot - 1;
    if (sampler->functions == FUNCTIONS || sampler->fresh <= 0) return NO_INDEX;
    int made = sampler->functions++;
    struct cloche_sampled_function *function = &sampler->function[made];
    sampler->keys[made] = *key;
    function->first_line = key->first_line;
    function->file_bytes = copy_text(view, key->file, function->file);
    function->name_bytes = copy_text(view, key->name, function->name);
    *slot = (uint16_t)(made + 1);
    return made;
}

/* The place in the code at which a frame is; NO_INDEX: it is no frame, or there is no room to note it. */
static int place_of(struct sampler *sampler, const struct view *view, uint32_t lane, const struct step *step) {
    const uint32_t *layout = view->layout;
    struct key key = {.lane = lane, .code = step->code};
    uint32_t first_line;
    uint64_t code = step->code;
    if (!word_at(view, code + layout[LAYOUT_CODE_FILENAME], &key.file) ||
        !word_at(view, code + layout[LAYOUT_CODE_QUALNAME], &key.name) ||
        !word_at(view, code + layout[LAYOUT_CODE_LINETABLE], &key.table) ||
        !word_at(view, code + layout[LAYOUT_CODE_FIRSTLINENO], &first_line))
        return NO_INDEX;
    key.first_line = (int32_t)first_line;
    int function = function_of(sampler, view, &key);
    if (function == NO_INDEX) return NO_INDEX;
    struct place_key place = {(uint32_t)function, step->instruction - (step->code + layout[LAYOUT_CODE_INSTRUCTIONS])};
    uint16_t *slot = slot_of(sampler->place_index, 2 * PLACES, &place, sampler->place, sizeof place, sizeof *sampler->place);
    if (*slot) return *slot - 1;
    if (sampler->places == PLACES || sampler->fresh-- <= 0) return NO_INDEX;
    int made = sampler->places++;
    sampler->place[made].function = place.function;
    sampler->place[made].offset = place.offset;
    sampler->place[made].line = line_of(view, &key, place.offset, &sampler->table_left);
    *slot = (uint16_t)(made + 1);
    return made;
}

static int node_of(struct sampler *sampler, int parent, int place) {
    struct node_key key = {(uint32_t)parent, (uint32_t)place};
    uint16_t *slot = slot_of(sampler->node_index, 2 * NODES, &key, sampler->node, sizeof key, sizeof *sampler->node);
    if (*slot) return *slot - 1;
    if (sampler->nodes == NODES) return NO_INDEX;
    int made = sampler->nodes++;
    sampler->node[made].parent = key.parent;
    sampler->node[made].place = key.place;
    *slot = (uint16_t)(made + 1);
    return made;
}

/* ---- a sample */
enum walked { BROKEN_OFF, DEEPER, WHOLE };

/* Read the frames, the innermost one first, without those that stand for C code. */
static enum walked walk(const struct view *view, struct step *steps, int *count) {
    const uint32_t *layout = view->layout;
    uint32_t frame, previous, type;
    *count = 0;
    if (!word_at(view, layout[LAYOUT_CURRENT_FRAME], &frame)) return BROKEN_OFF;
    for (int looked = 0; frame && looked < 2 * FRAMES; looked++, frame = previous) {
        uint8_t owner;
        if (!byte_at(view, (uint64_t)frame + layout[LAYOUT_FRAME_OWNER], &owner) ||
            !word_at(view, (uint64_t)frame + layout[LAYOUT_FRAME_PREVIOUS], &previous))
            return BROKEN_OFF;
        if (owner == layout[LAYOUT_FRAME_OWNED_BY_CSTACK]) continue;
        if (*count == FRAMES) return DEEPER;
        struct step *step = &steps[*count];
        step->frame = frame;
        if (!word_at(view, (uint64_t)frame + layout[LAYOUT_FRAME_EXECUTABLE], &step->code) ||
            !word_at(view, (uint64_t)frame + layout[LAYOUT_FRAME_INSTR_PTR], &step->instruction) ||
            !word_at(view, (uint64_t)step->code + layout[LAYOUT_OBJECT_TYPE], &type) || type != layout[LAYOUT_CODE_TYPE])
            return BROKEN_OFF;
        ++*count;
    }
    return frame ? DEEPER : WHOLE;
}

/* Read the frames until two readings agree; from *first on they are believed. NULL: there is nothing to believe. */
static const struct step *believed(struct sampler *sampler, const struct view *view, int *first, int *count, int *cut) {
    int counts[2] = {0, 0}, turn = 0;
    enum walked before = BROKEN_OFF, now = walk(view, sampler->steps[0], &counts[0]);
    for (int i = 0; i < TRIES; i++) {
        turn = !turn;
        before = now;
        now = walk(view, sampler->steps[turn], &counts[turn]);
        const struct step *one = sampler->steps[!turn], *other = sampler->steps[turn];
        int same = 0, most = counts[0] < counts[1] ? counts[0] : counts[1];
        if (now == BROKEN_OFF || now != before) continue;
        while (same < most && one[counts[!turn] - 1 - same].frame == other[counts[turn] - 1 - same].frame &&
               one[counts[!turn] - 1 - same].code == other[counts[turn] - 1 - same].code)
            same++;
        *first = counts[turn] - same, *count = counts[turn], *cut = now == DEEPER;
        if (counts[0] == counts[1] && same == most) return other;
        if (now == WHOLE && same && i == TRIES - 1) return other;
    }
    return NULL;
}

static void sample(struct sampler *sampler, struct guest *guest, uint32_t number, uint64_t elapsed) {
    struct cloche_sampled_lane *lane = &sampler->lane[number];
    uint64_t state = LOAD(guest->words[WORD_STATE]);
    if (state != CLOCHE_RUNNING && state != CLOCHE_WAITING) {
        lane->rested++;
        return;
    }
    struct view view = {guest->base, engine.memory_size(guest->context, &guest->memory.of), sampler->layout};
    int first = 0, count = 0, cut = 0, node = (int)number;
    const struct step *steps = believed(sampler, &view, &first, &count, &cut);
    lane->samples++;
    if (steps) {
        lane->torn += first > 0;
        lane->cut += (uint64_t)cut;
        sampler->fresh = FRESH;
        sampler->table_left = TABLE_BYTES;
        for (int i = count - 1; i >= first; i--) {
            int place = place_of(sampler, &view, number, &steps[i]);
            int inner = place == NO_INDEX ? NO_INDEX : node_of(sampler, node, place);
            if (inner == NO_INDEX) {
                lane->full++;
                break;
            }
            node = inner;
        }
    } else {
        lane->lost++;
    }
    sampler->node[node].samples++;
    sampler->node[node].spent_ns += elapsed;
}

static uint64_t random_of(struct sampler *sampler) {
    sampler->random ^= sampler->random << 13;
    sampler->random ^= sampler->random >> 7;
    sampler->random ^= sampler->random << 17;
    return sampler->random;
}

static void drop(struct sampler *sampler) {
    for (int i = 0; i < SAMPLERS; i++)
        if (samplers[i] == sampler) samplers[i] = NULL;
    free(sampler);
}

static void *run(void *argument) {
    struct sampler *sampler = argument;
    int64_t rest = 0; /* how long the lock is others' at least */
    pthread_mutex_lock(&timer_lock);
    for (;;) {
        int64_t now = clock_now(), next = sampler->last + sampler->period / 2;
        next += (int64_t)(random_of(sampler) % (uint64_t)sampler->period);
        if (next < now + rest) next = now + rest;
        for (; !sampler->ending && now < next; now = clock_now()) timer_wait(&sampler->wake, next);
        if (sampler->ending) break;
        int64_t elapsed = now - sampler->last;
        if (elapsed > LATE * sampler->period) elapsed = LATE * sampler->period;
        for (struct guest *guest = timer_guests(); guest; guest = guest->next) {
            uint64_t wanted = LOAD(guest->words[WORD_SAMPLER]);
            if (wanted >> 16 == sampler->number && (wanted & 0xffff) < CLOCHE_LANES)
                sample(sampler, guest, (uint32_t)(wanted & 0xffff), (uint64_t)elapsed);
        }
        sampler->last = now;
        rest = SHARE * (clock_now() - now) + 1;
    }
    pthread_cond_destroy(&sampler->wake);
    drop(sampler);
    pthread_mutex_unlock(&timer_lock);
    return NULL;
}

static struct sampler *find(int number) {
    for (int i = 0; i < SAMPLERS; i++)
        if (samplers[i] && samplers[i]->number == (uint32_t)number) return samplers[i];
    return NULL;
}

CLOCHE_EXPORT int cloche_sampler_begin(const uint32_t *layout, size_t count, uint64_t period_ns) {
    if (count != LAYOUT_COUNT || period_ns < 2 || period_ns > (uint64_t)INT64_MAX / LATE / 2) return CLOCHE_REFUSED;
    struct sampler *sampler = calloc(1, sizeof *sampler); /* pages that it never needs are never there */
    if (!sampler) return CLOCHE_NO_MEMORY;
    memcpy(sampler->layout, layout, sizeof sampler->layout);
    sampler->period = (int64_t)period_ns;
    sampler->nodes = CLOCHE_LANES;
    for (int i = 0; i < CLOCHE_LANES; i++) sampler->node[i].parent = sampler->node[i].place = UINT32_MAX;
    int status = CLOCHE_BUSY;
    pthread_mutex_lock(&timer_lock);
    for (int i = 0; i < SAMPLERS && status == CLOCHE_BUSY; i++) {
        if (samplers[i]) continue;
        numbered = numbered % 0x7fffffff + 1;
        sampler->number = numbered;
        sampler->last = clock_now();
        sampler->random = (uint64_t)sampler->last << 8 | 1;
        timer_condition(&sampler->wake);
        samplers[i] = sampler;
        status = timer_thread(run, sampler) ? (int)numbered : CLOCHE_NO_THREAD;
        if (status < 0) pthread_cond_destroy(&sampler->wake), samplers[i] = NULL;
    }
    pthread_mutex_unlock(&timer_lock);
    if (status < 0) free(sampler);
    return status;
}

CLOCHE_EXPORT int cloche_sampler_end(int number) {
    pthread_mutex_lock(&timer_lock);
    struct sampler *sampler = find(number);
    if (sampler && sampler->orphaned) {
        drop(sampler);
    } else if (sampler) {
        sampler->ending = 1;
        pthread_cond_signal(&sampler->wake);
    }
    pthread_mutex_unlock(&timer_lock);
    return sampler ? CLOCHE_DONE : CLOCHE_REFUSED;
}

CLOCHE_EXPORT int cloche_sampled(int number, int kind, uint32_t first, void *to, uint32_t room) {
    int copied = CLOCHE_REFUSED;
    pthread_mutex_lock(&timer_lock);
    struct sampler *sampler = find(number);
    if (sampler && kind >= CLOCHE_SAMPLED_FUNCTION && kind <= CLOCHE_SAMPLED_LANE) {
        const struct {
            const void *items;
            size_t bytes;
            int count;
        } tables[] = {
            {sampler->function, sizeof *sampler->function, sampler->functions},
            {sampler->place, sizeof *sampler->place, sampler->places},
            {sampler->node, sizeof *sampler->node, sampler->nodes},
            {sampler->lane, sizeof *sampler->lane, CLOCHE_LANES},
        };
        uint32_t count = (uint32_t)tables[kind].count, most = first < count ? count - first : 0;
        copied = (int)(most < room ? most : room);
        memcpy(to, (const char *)tables[kind].items + first * tables[kind].bytes, (size_t)copied * tables[kind].bytes);
    }
    pthread_mutex_unlock(&timer_lock);
    return copied;
}

void samplers_forked(void) {
    for (int i = 0; i < SAMPLERS; i++)
        if (samplers[i]) samplers[i]->orphaned = 1; /* its thread is the parent's */
}
