// The CUDA attention kernel against the double-precision oracle on hostile shapes: by the emulator,
// which says that the text is right where the emulator is, and on a device where there is one.
#include <catch2/catch.hpp>

#include <sys/mman.h>

#include <array>
#include <cmath>
#include <cstdio>

#include "tests/cuda/layer.h"
#include "tests/cuda/under_test.h"

namespace mi::test::cuda {
namespace {

template <class T, int kHeadDim>
void check_layers(const std::vector<Layer>& layers) {
  const Kernel<T> kernel = attend_kernel<T, kHeadDim>();
  double worst = 0;
  uint64_t seed = 20260101;
  for (const Layer& layer : layers) {
    for (const bool sparse : {false, true}) {
      Layer of = layer;
      of.sparse = sparse;
      INFO("n_q " << of.sequences[0].first << " n_kv " << of.sequences[0].second << " heads "
                  << of.heads << " over " << of.kv_heads << " cap " << of.softcap << " scale "
                  << of.scale << (sparse ? " sparse" : " dense") << " seed " << seed);
      CHECK(check_layer(kernel, of, ++seed, &worst) == "");
    }
  }
  std::printf("head_dim %d: worst error %.2f of the allowed\n", kHeadDim, worst);
}

// One launch each; the first is a batch of unequal sequences, chunks among them.
const std::vector<Layer> kHostile = {
    {{{1, 1}, {63, 63}, {64, 64}, {65, 65}, {1, 200}, {130, 257}}},
    {{{65, 190}}, 3, 1},
    {.sequences = {{65, 65}}, .with_lse = false},
    {{{70, 300}, {1, 64}}, 4, 1, 5.0f},
    {{{130, 130}}, 4, 2, 0, 8.0f, 0, false},
    {{{66, 131}}, 2, 2, 1.0f, 1, -0.2f, false},
    {{{64, 130}}, 1, 1, 0, 1, -0.2f},
};
// Of other head dimensions the arithmetic is the same; what differs is where things lie. A device
// is fast enough for all of them.
const std::vector<Layer> kShort = kOnDevice ? kHostile
                                            : std::vector<Layer>{
                                                  {{{65, 65}, {1, 130}}, 2, 1},
                                                  {{{64, 161}}, 1, 1, 30.0f},
                                              };

TEST_CASE("attention of 64 in bf16, for any shape and selection") {
  MI_NEEDS_MACHINE();
  check_layers<bf16, 64>(kHostile);
}
TEST_CASE("attention of 64 in f16, for any shape and selection") {
  MI_NEEDS_MACHINE();
  check_layers<f16, 64>(kHostile);
}
TEST_CASE("attention of 80") {
  MI_NEEDS_MACHINE();
  check_layers<bf16, 80>(kShort);
  check_layers<f16, 80>(kShort);
}
TEST_CASE("attention of 96") {
  MI_NEEDS_MACHINE();
  check_layers<bf16, 96>(kShort);
  check_layers<f16, 96>(kShort);
}
TEST_CASE("attention of 128") {
  MI_NEEDS_MACHINE();
  check_layers<bf16, 128>(kHostile);
  check_layers<f16, 128>(kShort);
}
TEST_CASE("attention of 256") {
  MI_NEEDS_MACHINE();
  check_layers<bf16, 256>(kShort);
  check_layers<f16, 256>(kShort);
}

#ifdef MI_ON_DEVICE
// More blocks of threads than a device runs at a time, and rows of many tiles: minutes on the
// emulator.
TEST_CASE("attention over more than fits on the device at once", "[long]") {
  MI_NEEDS_MACHINE();
  const std::vector<Layer> layers = {{{{777, 1500}, {1, 4000}, {64, 64}}, 8, 2}};
  check_layers<bf16, 64>(layers);
  check_layers<f16, 80>(layers);
  check_layers<bf16, 96>(layers);
  check_layers<f16, 128>(layers);
  check_layers<bf16, 128>(layers);
  check_layers<bf16, 256>(layers);
}
#endif

TEST_CASE("attention over strides of more than 2^31 elements", "[long]") {
  MI_NEEDS_MACHINE();
  // Two keys of score 0 and values 1 and 3, a stride apart in memory that is never touched between.
  constexpr int64_t kStride = (int64_t{1} << 31) + 8;
  constexpr size_t kBytes = (2 * kStride + 64) * sizeof(bf16);
  void* const mapped = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(mapped != MAP_FAILED);
  auto* const v = static_cast<bf16*>(mapped);
  for (int x = 0; x < 64; ++x) {
    v[x] = to_bf16(1);
    v[kStride + x] = to_bf16(3);
  }
  bf16* const o = v + 2 * kStride;
  const std::vector<bf16> zeros(64);
  float lse = 0;

  using kernels::cuda::AttendCall;
  const Kernel<bf16> kernel = attend_kernel<bf16, 64>();
  const auto launch = kernel.launch();
  constexpr size_t kRow = 64 * sizeof(bf16);
  const std::array<Part, 3> parts = {
      {{0, kRow, false}, {kStride * sizeof(bf16), kRow, false}, {kBytes - kRow, kRow, true}}};
  auto* const seen = static_cast<bf16*>(launch->share(mapped, kBytes, parts));
  const bf16* const seen_zeros = launch->input(zeros);
  const std::vector<kernels::cuda::Sequence<bf16>> sequences = {{{seen_zeros, 0, 0},
                                                                 {seen_zeros, 0, 0},
                                                                 {seen, kStride, 0},
                                                                 {seen, 0, kStride},
                                                                 launch->output(&lse, 1),
                                                                 0,
                                                                 1,
                                                                 2}};
  const std::vector<kernels::cuda::WorkItem> items = {{.head = 2}};
  const AttendCall<bf16> call{.sequences = launch->input(sequences),
                              .items = launch->input(items),
                              .heads_per_kv = 3,
                              .scale = 1};
  CHECK(launch->run(call, 1).wrong == "");
  for (int x = 0; x < 64; ++x) CHECK(to_float(o[x]) == 2);
  CHECK(lse == Approx(std::log(2.0)));
  munmap(mapped, kBytes);
}

}  // namespace
}  // namespace mi::test::cuda
