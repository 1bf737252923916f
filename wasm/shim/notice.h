/* Notices: what the host tells a guest that runs, by a word in the guest's memory (cloche_wire/abi.py, NOTICE_*). */
#ifndef CLOCHE_NOTICE_H
#define CLOCHE_NOTICE_H
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE 1
#include <Python.h>

void notice_init(void);                                             /* before the snapshot: fills cloche_layout */
int notice_set_exceptions(PyObject *deadline, PyObject *cancelled); /* classes; -1 with an exception */

void notice_clear(void);            /* nothing waits any more */
int notice_deaf(int deaf);          /* while deaf, notices are cleared and not raised; the answer is the state before */
void notice_again(PyObject *error); /* it was raised where nothing can be raised (a finaliser): the next check raises it anew */
int notice_raised(void);            /* whether one has been raised since the last time this was asked */
#endif
