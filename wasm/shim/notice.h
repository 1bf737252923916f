/* Notices: the host tells a running guest to stop (deadline, cancel) by writing one of NOTICE_* (cloche_wire/abi.py) to a word
   of the guest's memory. */
#ifndef CLOCHE_NOTICE_H
#define CLOCHE_NOTICE_H
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE 1
#include <Python.h>

void notice_init(void);                                             /* before the snapshot: fills cloche_layout */
void notice_set_pause(PyObject *hook);                              /* what to call when the host wants a pause; None: nothing */
int notice_set_exceptions(PyObject *deadline, PyObject *cancelled); /* the classes to raise; -1 with an exception set */

void notice_begin_item(uint32_t number); /* tell the host that work on that item of a batch has begun */
void notice_clear(void);                 /* forget a notice that is pending */
int notice_deaf(int deaf);               /* while deaf, notices are cleared and not raised; returns the state before */
void notice_again(
    PyObject *error);     /* raise it once more at the next check: the first time was in a finaliser, which swallowed it */
int notice_pending(void); /* whether one waits that will raise an exception; answered without raising it */
int notice_raised(void);  /* whether a notice was raised since the last call of this function */
#endif
