#ifndef NUMPY_CORE_SRC_COMMON_NPY_FP_TO_INT_H_
#define NUMPY_CORE_SRC_COMMON_NPY_FP_TO_INT_H_
/*
 * Floating point to integer as x86-64 converts, also what does not fit (NaN, infinities, out of range), where C says
 * nothing and the compiler's own code depends on whether it found SIMD for the loop.
 *
 * x86-64 has one conversion to 32 and one to 64 bits. Each gives the smallest integer ("integer indefinite") for what
 * does not fit; the narrower types and uint32 are cut from it; uint64 is made of two ranges of the one to 64.
 *
 * NPY_FP_TO_INT_INVALID() is evaluated when the processor would raise FE_INVALID.
 */
#include "numpy/npy_common.h"

#ifndef NPY_FP_TO_INT_INVALID
#define NPY_FP_TO_INT_INVALID() ((void)0)
#endif

/*
 * f: suffix of the functions; above32, above64: how a value compares that is not too small; narrow: the conversion
 * from which the types narrower than 32 bits are cut, but uint16
 */
#define NPY_FP_TO_INT_FUNCTIONS(f, type, above32, above64, narrow) \
    static inline npy_int32 npy_fp_to_int32##f(type x) { \
        if (x above32 && x < (type)2147483648.0) { \
            return (npy_int32)x; \
        } \
        NPY_FP_TO_INT_INVALID(); \
        return NPY_MIN_INT32; \
    } \
    static inline npy_int64 npy_fp_to_int64##f(type x) { \
        if (x above64 && x < (type)9223372036854775808.0) { \
            return (npy_int64)x; \
        } \
        NPY_FP_TO_INT_INVALID(); \
        return NPY_MIN_INT64; \
    } \
    static inline npy_uint64 npy_fp_to_uint64##f(type x) { \
        const type half = (type)9223372036854775808.0; \
        if (x >= half) { \
            return (npy_uint64)npy_fp_to_int64##f(x - half) ^ ((npy_uint64)1 << 63); \
        } \
        return (npy_uint64)npy_fp_to_int64##f(x); \
    } \
    static inline npy_short npy_fp_to_short##f(type x) { return (npy_short)narrow(x); } \
    static inline npy_byte npy_fp_to_byte##f(type x) { return (npy_byte)narrow(x); } \
    static inline npy_ubyte npy_fp_to_ubyte##f(type x) { return (npy_ubyte)narrow(x); } \
    static inline npy_ushort npy_fp_to_ushort##f(type x) { return (npy_ushort)npy_fp_to_int32##f(x); } \
    static inline npy_int npy_fp_to_int##f(type x) { return npy_fp_to_int32##f(x); } \
    static inline npy_uint npy_fp_to_uint##f(type x) { return (npy_uint)npy_fp_to_int64##f(x); } \
    static inline npy_long npy_fp_to_long##f(type x) { return npy_fp_to_int64##f(x); } \
    static inline npy_ulong npy_fp_to_ulong##f(type x) { return npy_fp_to_uint64##f(x); } \
    static inline npy_longlong npy_fp_to_longlong##f(type x) { return npy_fp_to_int64##f(x); } \
    static inline npy_ulonglong npy_fp_to_ulonglong##f(type x) { return npy_fp_to_uint64##f(x); }

NPY_FP_TO_INT_FUNCTIONS(f, float, >= -2147483648.0f, >= -9223372036854775808.0f, npy_fp_to_int32f)
NPY_FP_TO_INT_FUNCTIONS(, double, > -2147483649.0, >= -9223372036854775808.0, npy_fp_to_int32)
/* The x87 unit, which converts long doubles, has a conversion to 16 bits, too. */
static inline npy_short npy_fp_to_int16l(npy_longdouble x) {
    if (x > -32769.0L && x < 32768.0L) {
        return (npy_short)x;
    }
    NPY_FP_TO_INT_INVALID();
    return NPY_MIN_INT16;
}

NPY_FP_TO_INT_FUNCTIONS(l, npy_longdouble, > -2147483649.0L, > -9223372036854775809.0L, npy_fp_to_int16l)

#undef NPY_FP_TO_INT_FUNCTIONS

#endif /* NUMPY_CORE_SRC_COMMON_NPY_FP_TO_INT_H_ */
