// MI_TARGET_BEGIN("avx512f,...") ... MI_TARGET_END: everything between is compiled for that
// instruction set. Never per-file -mavx512...: shared templates of the standard library would come
// out with AVX code, and the linker may pick that copy for an old CPU.
#pragma once

#define MI_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define MI_TARGET_BEGIN(isa) \
  MI_PRAGMA(clang attribute push(__attribute__((target(isa))), apply_to = function))
#define MI_TARGET_END _Pragma("clang attribute pop")
#else
#define MI_TARGET_BEGIN(isa) _Pragma("GCC push_options") MI_PRAGMA(GCC target(isa))
#define MI_TARGET_END _Pragma("GCC pop_options")
#endif

// Primitives that take or return vector registers must vanish into their callers.
#define MI_INLINE inline __attribute__((always_inline))
