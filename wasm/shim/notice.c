/* Turns a notice of the host into an exception of the running guest.

   CPython looks for signals wherever a signal handler may run: between bytecodes (once the host has set a bit of eval_breaker), in
   regular expressions, in arithmetic of big integers and after EINTR. It does so through two functions, which are defined here and
   look for a notice first. signalmodule.c keeps its own two under other names (cpython/objects.toml). */
#include "notice.h"
#include "wire/abi.h"
#include "pycore_ceval.h"
#include "pycore_code.h"
#include "pycore_frame.h"
#include "pycore_pystate.h"
#include <stddef.h>

__attribute__((import_module(IMPORT_MODULE), import_name("poll"))) extern int32_t host_poll(void);

extern int cpython_check_signals(void), cpython_check_signals_of(PyThreadState *); /* those of signalmodule.c */

volatile uint32_t cloche_notice[NOTICE_WORDS]; /* written by another thread of the host */
uint32_t cloche_layout[LAYOUT_WORDS];

static PyObject *exceptions[NOTICE_POLL]; /* the class for each NOTICE_*; NULL: not registered yet */
static PyObject *pause_hook;              /* a debugger's; NULL: there is none */
static int deaf, raised;                  /* see notice_deaf, notice_raised */
static int put_off;                       /* checks that have left the notice pending, one after the other */

void notice_begin_item(uint32_t number) { cloche_notice[NOTICE_begun] = number + 1; }
void notice_clear(void) {
    cloche_notice[NOTICE_request] = NOTICE_NONE;
    put_off = 0; /* how many it were depends on when the notice came: nothing of that may stay in memory after the call */
}
int notice_deaf(int now) {
    int before = deaf;
    deaf = now;
    return before;
}
int notice_pending(void) {
    uint32_t request = cloche_notice[NOTICE_request];
    return !deaf && (request == NOTICE_DEADLINE || request == NOTICE_CANCEL);
}
int notice_raised(void) {
    int before = raised;
    raised = 0;
    return before;
}
int notice_set_exceptions(PyObject *deadline, PyObject *cancelled) {
    if (!PyExceptionClass_Check(deadline) || !PyExceptionClass_Check(cancelled)) {
        PyErr_SetString(PyExc_TypeError, "expected exception classes");
        return -1;
    }
    Py_XSETREF(exceptions[NOTICE_DEADLINE], Py_NewRef(deadline));
    Py_XSETREF(exceptions[NOTICE_CANCEL], Py_NewRef(cancelled));
    return 0;
}

void notice_set_pause(PyObject *hook) { Py_XSETREF(pause_hook, hook == Py_None ? NULL : Py_NewRef(hook)); }

/* Call the debugger as CPython calls the handler of a signal: what it raises is raised in the code that runs. */
static int pause_here(void) {
    cloche_notice[NOTICE_pause] = 0;
    if (!pause_hook) return 0;
    PyObject *hook = Py_NewRef(pause_hook), *result = PyObject_CallNoArgs(hook);
    Py_DECREF(hook);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* Code that an exception at any bytecode would leave in an inconsistent state (dispatch, event loop, imports, locks), or whose
   exceptions CPython can only print (callbacks of weak references). */
static const char *const undisturbed[] = {
    "<cloche>/cloche_guest/", "<cloche>/cloche_wire/", "<cloche>/asyncio/",   "<cloche>/contextlib.py",  "<cloche>/logging/",
    "<cloche>/concurrent/",   "<cloche>/threading.py", "<cloche>/weakref.py", "<cloche>/_weakrefset.py", "<frozen importlib",
};
static int is_undisturbed(PyThreadState *tstate) {
    _PyInterpreterFrame *frame = tstate->current_frame;
    if (!frame || !frame->f_executable || !PyCode_Check(frame->f_executable)) return 0;
    PyObject *file = ((PyCodeObject *)frame->f_executable)->co_filename;
    if (!PyUnicode_Check(file) || !PyUnicode_IS_COMPACT_ASCII(file)) return 0;
    const char *name = PyUnicode_DATA(file);
    size_t size = (size_t)PyUnicode_GET_LENGTH(file);
    for (size_t i = 0; i < sizeof undisturbed / sizeof *undisturbed; i++) {
        size_t n = strlen(undisturbed[i]);
        if (size >= n && !memcmp(name, undisturbed[i], n)) return 1;
    }
    return 0;
}

void notice_again(PyObject *error) {
    for (uint32_t request = NOTICE_DEADLINE; request < NOTICE_POLL; request++)
        if (!deaf && exceptions[request] && (PyObject *)Py_TYPE(error) == exceptions[request]) {
            cloche_notice[NOTICE_request] = request;
            _Py_set_eval_breaker_bit(PyThreadState_Get(), _PY_SIGNALS_PENDING_BIT);
        }
}

static int heed(uint32_t request) {
    if (PyErr_Occurred()) return 0; /* the notice stays pending: two exceptions cannot be raised at once */
    notice_clear();                 /* before `poll`: the host may write another notice meanwhile */
    if (deaf) return 0;
    if (request == NOTICE_POLL) {
        request = (uint32_t)host_poll();
        if (cloche_notice[NOTICE_pause] && pause_here() < 0) return -1;
    }
    if (request != NOTICE_DEADLINE && request != NOTICE_CANCEL) return 0;
    PyObject *kind = exceptions[request];
    if (!kind) return 0;
    raised = 1;
    PyErr_SetString(kind, request == NOTICE_DEADLINE ? "the call passed its deadline" : "the call was cancelled");
    return -1;
}

/* CPython calls this between two bytecodes. In code that must not be disturbed, the notice waits for a later check: at most
   PATIENCE checks, so that a node cannot hide in such code. */
int _PyErr_CheckSignalsTstate(PyThreadState *tstate) {
    enum { PATIENCE = 10000 };
    uint32_t request = cloche_notice[NOTICE_request];
    if (request) {
        if (!deaf && put_off < PATIENCE && is_undisturbed(tstate)) {
            put_off++;
            _Py_set_eval_breaker_bit(tstate, _PY_SIGNALS_PENDING_BIT);
        } else if (heed(request) < 0) {
            return -1;
        }
    }
    return cpython_check_signals_of(tstate);
}
/* CPython and extensions call this in C code that takes long or waits. */
int PyErr_CheckSignals(void) {
    uint32_t request = cloche_notice[NOTICE_request];
    if (request && heed(request) < 0) return -1;
    return cpython_check_signals();
}

void notice_init(void) {
    PyThreadState *tstate = PyThreadState_Get();
    uint32_t *w = cloche_layout;
#define ADDRESS(of) (uint32_t)(uintptr_t)(of)
    w[LAYOUT_breaker] = ADDRESS(&tstate->eval_breaker);
    w[LAYOUT_breaker_bit] = _PY_SIGNALS_PENDING_BIT;
    w[LAYOUT_current_frame] = ADDRESS(&tstate->current_frame);
    w[LAYOUT_frame_executable] = offsetof(_PyInterpreterFrame, f_executable);
    w[LAYOUT_frame_previous] = offsetof(_PyInterpreterFrame, previous);
    w[LAYOUT_frame_instr_ptr] = offsetof(_PyInterpreterFrame, instr_ptr);
    w[LAYOUT_frame_owner] = offsetof(_PyInterpreterFrame, owner);
    w[LAYOUT_frame_owned_by_cstack] = FRAME_OWNED_BY_CSTACK;
    w[LAYOUT_object_type] = offsetof(PyObject, ob_type);
    w[LAYOUT_object_size] = offsetof(PyVarObject, ob_size);
    w[LAYOUT_code_type] = ADDRESS(&PyCode_Type);
    w[LAYOUT_code_filename] = offsetof(PyCodeObject, co_filename);
    w[LAYOUT_code_name] = offsetof(PyCodeObject, co_name);
    w[LAYOUT_code_qualname] = offsetof(PyCodeObject, co_qualname);
    w[LAYOUT_code_firstlineno] = offsetof(PyCodeObject, co_firstlineno);
    w[LAYOUT_code_linetable] = offsetof(PyCodeObject, co_linetable);
    w[LAYOUT_code_instructions] = offsetof(PyCodeObject, co_code_adaptive);
    w[LAYOUT_bytes_type] = ADDRESS(&PyBytes_Type);
    w[LAYOUT_bytes_data] = offsetof(PyBytesObject, ob_sval);
    w[LAYOUT_text_type] = ADDRESS(&PyUnicode_Type);
    w[LAYOUT_text_length] = offsetof(PyASCIIObject, length);
    w[LAYOUT_text_state] = offsetof(PyASCIIObject, state);
    w[LAYOUT_text_ascii_data] = sizeof(PyASCIIObject);
    w[LAYOUT_text_data] = sizeof(PyCompactUnicodeObject);
    union { /* shows where the compiler has put the bit fields */
        PyASCIIObject text;
        uint32_t words[sizeof(PyASCIIObject) / 4];
    } kind = {0}, compact = {0}, ascii = {0};
    kind.text.state.kind = 7, compact.text.state.compact = 1, ascii.text.state.ascii = 1;
    enum { STATE = offsetof(PyASCIIObject, state) / 4 };
    _Static_assert(sizeof kind.text.state == 4, "the state is one word");
    w[LAYOUT_text_kind_shift] = (uint32_t)__builtin_ctz(kind.words[STATE]);
    w[LAYOUT_text_kind_mask] = kind.words[STATE] >> w[LAYOUT_text_kind_shift];
    w[LAYOUT_text_compact_bit] = compact.words[STATE];
    w[LAYOUT_text_ascii_bit] = ascii.words[STATE];
#undef ADDRESS
}
