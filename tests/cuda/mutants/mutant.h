// What a program does that is built from one copy of the kernel text, in which there is a fault
// (MI_EXPECT_FAULT is 1) or is none.
#pragma once

#include <catch2/catch.hpp>

#include <cstdio>
#include <string>

// Of what a check says is wrong, nothing if nothing is.
#define MI_FAULT_IS_FOUND_BY(find_fault)                                  \
  TEST_CASE("a fault in the kernel text is found") {                      \
    const std::string wrong = find_fault();                               \
    std::printf("%s", wrong.empty() ? "nothing found\n" : wrong.c_str()); \
    CHECK(wrong.empty() == (MI_EXPECT_FAULT == 0));                       \
  }
