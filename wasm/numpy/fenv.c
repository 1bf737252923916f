/* The floating-point environment in software: flags that code sets and tests. Arithmetic does not set them, because
 * WebAssembly's instructions tell nothing; float_errors.c raises what they would have. wasi-libc's own functions do
 * nothing, and these take their place. */
#include <fenv.h>

static int flags;

int feclearexcept(int exceptions) {
    flags &= ~exceptions;
    return 0;
}

int feraiseexcept(int exceptions) {
    flags |= exceptions & FE_ALL_EXCEPT;
    return 0;
}

int fetestexcept(int exceptions) { return flags & exceptions; }

int fegetexceptflag(fexcept_t *to, int exceptions) {
    *to = (fexcept_t)(flags & exceptions);
    return 0;
}

int fesetexceptflag(const fexcept_t *from, int exceptions) {
    flags = (flags & ~exceptions) | ((int)*from & exceptions & FE_ALL_EXCEPT);
    return 0;
}

int fegetround(void) { return FE_TONEAREST; }

int fesetround(int mode) { return mode == FE_TONEAREST ? 0 : -1; }

int fegetenv(fenv_t *to) {
    to->__cw = (unsigned long)flags;
    return 0;
}

int fesetenv(const fenv_t *from) {
    flags = from == FE_DFL_ENV ? 0 : (int)from->__cw & FE_ALL_EXCEPT;
    return 0;
}

int feholdexcept(fenv_t *to) {
    fegetenv(to);
    flags = 0;
    return 0;
}

int feupdateenv(const fenv_t *from) {
    int before = flags;
    fesetenv(from);
    return feraiseexcept(before);
}
