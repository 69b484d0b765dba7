// What a device plan is made for, and what it refuses, which no machine is needed for.
#include <catch2/catch.hpp>

#include "libruntime/config.h"
#include "tests/cuda/device_layer.h"
#include "tests/cuda/head_entries.h"

namespace mi::test::cuda {
namespace {

TEST_CASE("the ready configs run on a device, at lengths of theirs and longer ones") {
  for (const char* name : {"5", "10", "15", "25"}) {
    const auto config = runtime::load_config(
        std::string(MI_SOURCE_DIR "/configs/smollm2-135m-instruct-") + name + ".yaml");
    REQUIRE(config);
    for (const int64_t tokens : {64, 8192, 32768}) {
      INFO(name << " % at " << tokens);
      const auto layers =
          DeviceLayers::make(*config, shape_of(tokens, tokens, 9, 3, 64, Element::bf16), {});
      REQUIRE(layers);
      CHECK(layers->layers() == 30);
      CHECK(layers->workspace_bytes() < size_t{2} << 30);
    }
  }
}

TEST_CASE("what a device plan does not offer it refuses by name") {
  const PlanShape shape = shape_of(640, 640, 2, 1, 64, Element::bf16);
  const auto refused = [](const HeadConfig& config, const PlanShape& of, Code code,
                          const std::string& text) {
    const auto made = DeviceLayers::make(config, of, {});
    REQUIRE(!made);
    INFO(made.error().what);
    CHECK(made.error().code == code);
    CHECK(made.error().what.find(text) != std::string::npos);
  };
  const std::vector<HeadEntry> plain(2, stripe(0.1));
  HeadEntry ranked = head_of(Pattern::block_sparse, 0);
  ranked.blocks[0] = 4;
  refused(config_of(shape, {plain, {plain[0], ranked}}), shape, Code::unsupported,
          "head 1.1: block_sparse by counts");
  HeadEntry counts = head_of(Pattern::vertical_slash, 0);
  counts.vertical[0] = 10;
  refused(config_of(shape, {{plain[0], counts}}), shape, Code::unsupported,
          "head 0.1: vertical_slash by counts");
  PlanShape other = shape;
  other.element = Element::f32;
  refused(config_of(shape, {plain}), other, Code::unsupported, "bf16 and f16");
  other = shape;
  other.n_q = 641;
  refused(config_of(shape, {plain}), other, Code::invalid_argument, "n_q 641");
  other = shape;
  other.head_dim = 72;
  refused(config_of(other, {plain}), other, Code::unsupported, "64, 80, 96, 128, 256");
  refused(config_of(shape, {plain}), other, Code::invalid_argument, "head_dim 64");
}

TEST_CASE("a wave over memory that it cannot use is refused") {
  const PlanShape shape = shape_of(65, 65, 2, 1, 64, Element::f16);
  const auto layers =
      DeviceLayers::make(config_of(shape, {std::vector<HeadEntry>(2, stripe(0.1))}), shape, {});
  REQUIRE(layers);
  DeviceBytes table(layers->table().size()), workspace(layers->workspace_bytes());
  double unspent = 0;
  const runtime::DeviceMemory good{table.data, workspace.data, &unspent, nullptr};
  const kernels::cuda::Sequence<f16> tensors;
  CHECK(layers->wave(0, 0, tensors, good));
  CHECK(!layers->wave(1, 0, tensors, good));
  CHECK(!layers->wave(0, 0, kernels::cuda::Sequence<bf16>(), good));
  const auto with = [&](auto change) {
    runtime::DeviceMemory changed = good;
    change(changed);
    return layers->wave(0, 0, tensors, changed);
  };
  CHECK(!with([](auto& m) { m.table = nullptr; }));
  CHECK(!with([](auto& m) { m.workspace += 8; }));
  CHECK(!with([](auto& m) { m.unspent = nullptr; }));
}

}  // namespace
}  // namespace mi::test::cuda
