/*
 * How much less of the same is done where a sanitizer makes each round many times as slow: the ordinary build does all
 * of it, in the same run of tests/run. Never a reason to leave a case out.
 */
#ifndef APIKEYD_TESTS_UNIT_LESS_H
#define APIKEYD_TESTS_UNIT_LESS_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LESS = 5 };
#else
enum { LESS = 1 };
#endif

#endif
