// Captures: searched as the model itself is, read in every number format, refused with the place.
#include "libsearch/model/capture.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <functional>
#include <map>

#include <hdf5.h>

#include "libsearch/search/search.h"
#include "tests/h5_file.h"
#include "tests/search/model_support.h"

namespace mi::search {
namespace {

using test::H5Handle;

constexpr int64_t kTokens = 300;

// What a capture file holds, to be changed before it is written.
struct Content {
  std::map<std::string, std::string> texts = {
      {"schema", "mi.capture"}, {"model", "tiny"}, {"architecture", "llama"}, {"source", "made"}};
  std::map<std::string, double> numbers = {{"schema_version", 1}, {"layers", 2},
                                           {"heads", 4},          {"kv_heads", 2},
                                           {"head_dim", 16},      {"tokens", kTokens}};
  // "residual" and "wo" as [1, rows, columns], "sinks" as [1, 1, heads].
  std::map<std::string, Tensor<float, 3>> sets;
  bool bf16_sets = false;
};

void write(const std::filesystem::path& path, const Content& content) {
  const H5Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), "file");
  const H5Handle scalar(H5Screate(H5S_SCALAR), "space");
  for (const auto& [name, text] : content.texts) {  // of any length, as h5py writes them
    const H5Handle type(H5Tcopy(H5T_C_S1), "text");
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    const H5Handle made(H5Acreate2(file, name.c_str(), type, scalar, H5P_DEFAULT, H5P_DEFAULT),
                        name);
    const char* value = text.c_str();
    REQUIRE(H5Awrite(made, type, static_cast<const void*>(&value)) >= 0);
  }
  for (const auto& [name, value] : content.numbers) {
    const bool whole = value == std::floor(value);
    const H5Handle made(H5Acreate2(file, name.c_str(), whole ? H5T_STD_I64LE : H5T_IEEE_F64LE,
                                   scalar, H5P_DEFAULT, H5P_DEFAULT),
                        name);
    REQUIRE(H5Awrite(made, H5T_NATIVE_DOUBLE, &value) >= 0);
  }
  const H5Handle links(H5Pcreate(H5P_LINK_CREATE), "links");
  H5Pset_create_intermediate_group(links, 1);
  for (const auto& [name, tensor] : content.sets) {
    hsize_t extent[3];
    for (int i = 0; i < 3; ++i) extent[i] = static_cast<hsize_t>(tensor.extent(i));
    const bool flat = name.ends_with("residual") || name.ends_with("wo");
    const int rank = name.ends_with("sinks") ? 1 : flat ? 2 : 3;
    const H5Handle space(H5Screate_simple(rank, extent + 3 - rank, nullptr), name);
    const H5Handle set(
        H5Dcreate2(file, name.c_str(), content.bf16_sets ? H5T_STD_U16LE : H5T_IEEE_F32LE, space,
                   links, H5P_DEFAULT, H5P_DEFAULT),
        name);
    const auto values = tensor.view();
    const std::span<const float> all(values.data,
                                     static_cast<size_t>(H5Sget_simple_extent_npoints(space)));
    std::vector<uint16_t> bits;
    for (const float value : all) bits.push_back(to_bf16(value).bits);
    if (content.bf16_sets)
      REQUIRE(H5Dwrite(set, H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, bits.data()) >= 0);
    else
      REQUIRE(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, all.data()) >= 0);
  }
}

Sample tiny_sample() {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < kTokens; ++i)
    ids.push_back(static_cast<int32_t>((i * i + 7 * i) % tiny_model().spec().vocab));
  auto sample = sample_from_ids(ids, 0, kTokens, "test");
  REQUIRE(sample);
  return std::move(*sample);
}

// The tiny model's q, k and v.
Content tiny_capture(bool with_residual = false) {
  Content content;
  if (with_residual) content.numbers["hidden"] = tiny_model().spec().hidden;
  const auto hidden = tiny_model().forward(
      tiny_sample().ids,
      [&](const LayerQkv& layer, TensorView<float, 3> o) {
        for (const auto& [name, view] :
             {std::pair{"q", layer.q}, std::pair{"k", layer.k}, std::pair{"v", layer.v}}) {
          Tensor<float, 3> copy(view.extent);
          for (int64_t h = 0; h < view.extent[0]; ++h)
            for (int64_t i = 0; i < kTokens; ++i)
              std::copy_n(view[h][i].data, view.extent[2], copy.view()[h][i].data);
          content.sets.insert_or_assign("layer_00" + std::to_string(layer.layer) + "/" + name,
                                        std::move(copy));
        }
        if (with_residual)
          for (const auto& [name, view] :
               {std::pair{"residual", layer.residual}, std::pair{"wo", layer.wo}}) {
            Tensor<float, 3> copy({1, view.extent[0], view.extent[1]});
            std::copy_n(view.data, view.extent[0] * view.extent[1], copy.data());
            content.sets.insert_or_assign("layer_00" + std::to_string(layer.layer) + "/" + name,
                                          std::move(copy));
          }
        return plain_attention(layer, o);
      },
      {});
  REQUIRE(hidden);
  return content;
}

ScoreReport scored(const Model& model, std::span<const Sample> samples) {
  SearchOptions options;
  options.limit = 0.9;
  options.compute.backend = &(*kernels::choose_backend())->f32();
  options.space.families.resize(3);
  ScoreReport report = empty_report(model.spec(), samples, {}, options);
  const Status done = score(model, samples, options.compute, {}, {}, report);
  INFO(done.what);
  REQUIRE(done);
  return report;
}

TEST_CASE("a capture with the stream and the output projection has the model's errors", "[cpu]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "c.h5";
  write(path, tiny_capture(true));
  auto captured = open_captures({&path, 1});
  REQUIRE(captured);
  const Sample own = tiny_sample();
  const ScoreReport want = scored(tiny_model(), {&own, 1});
  const ScoreReport got = scored(*captured->model, captured->samples);
  for (size_t l = 0; l < 2; ++l)
    for (size_t h = 0; h < 4; ++h)
      for (size_t c = 0; c < want.space.candidates(); ++c)
        CHECK(got.table.samples[0].layers[l][h][c].error ==
              Approx(want.table.samples[0].layers[l][h][c].error).epsilon(1e-4).margin(1e-9));
}

double worst_recall_difference(const ScoreReport& a, const ScoreReport& b) {
  double worst = 0;
  for (size_t l = 0; l < 2; ++l)
    for (size_t h = 0; h < 4; ++h)
      for (size_t c = 0; c < a.space.candidates(); ++c)
        worst = std::max(worst, std::abs(a.table.samples[0].layers[l][h][c].recall -
                                         b.table.samples[0].layers[l][h][c].recall));
  return worst;
}

Captured opened(const std::filesystem::path& path) {
  auto captured = open_captures({&path, 1});
  INFO((captured ? "" : captured.error().what));
  REQUIRE(captured);
  return std::move(*captured);
}

TEST_CASE("a capture of a model has the model's recall", "[cpu]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "c.h5";
  Content content = tiny_capture();
  const Sample own = tiny_sample();
  const ScoreReport want = scored(tiny_model(), {&own, 1});
  double allowed = 1e-6;
  const std::string change = GENERATE(as<std::string>(), "none", "scale", "bf16");
  if (change == "scale") {  // scores are what they were
    for (auto& [name, tensor] : content.sets)
      if (name.ends_with('q'))
        for (float& value : tensor.span()) value /= 2;
    content.numbers["scale"] = 0.5;  // 2 / sqrt(16)
    content.texts["attention_layers"] = "2,5";
  }
  if (change == "bf16") {
    content.bf16_sets = true;
    allowed = 0.02;
  }
  INFO(change);
  write(path, content);
  const Captured captured = opened(path);
  CHECK(captured.model->spec().name == "tiny");
  CHECK(captured.samples[0].source == "capture made");
  CHECK(captured.model->spec().attention_layers ==
        (change == "scale" ? std::vector<int>{2, 5} : std::vector<int>{}));
  const ScoreReport got = scored(*captured.model, captured.samples);
  CHECK(got.samples[0].tokens == kTokens);
  CHECK(worst_recall_difference(got, want) < allowed);
}

TEST_CASE("attention sinks of a capture take part in its masses", "[cpu]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "c.h5";
  Content content = tiny_capture();
  write(path, content);
  const Captured plain = opened(path);
  const ScoreReport without = scored(*plain.model, plain.samples);
  for (const float sink : {-1000.0f, 1000.0f, 3.0f}) {
    INFO(sink);
    for (const std::string layer : {"layer_000/", "layer_001/"}) {
      Tensor<float, 3> sinks({1, 1, 4});
      std::fill(sinks.span().begin(), sinks.span().end(), -1000.0f);
      sinks.view()[0][0][2] = sink;
      content.sets.insert_or_assign(layer + "sinks", std::move(sinks));
    }
    const auto with_sinks = folder.path() / "sinks.h5";
    write(with_sinks, content);
    const Captured captured = opened(with_sinks);
    const ScoreReport with = scored(*captured.model, captured.samples);
    for (size_t h = 0; h < 4; ++h)
      for (size_t c = 0; c < with.space.candidates(); ++c) {
        const auto& got = with.table.samples[0].layers[1][h][c];
        const auto& was = without.table.samples[0].layers[1][h][c];
        if (h != 2 || sink < 0) {
          CHECK(got.recall == Approx(was.recall).epsilon(1e-6));
          CHECK(got.error == Approx(was.error).epsilon(1e-6));
        } else if (sink > 100) {
          CHECK(got.recall == Approx(1));  // no key has any mass
        } else {
          CHECK(got.recall >= was.recall);
          if (was.recall < 0.99) CHECK(got.recall > was.recall);
        }
      }
  }
  const std::filesystem::path both[] = {folder.path() / "sinks.h5", path};
  CHECK_THAT(open_captures(both).error().what,
             Catch::Contains("c.h5: found no attention sinks, expected some as in"));
}

TEST_CASE("captures of one model are samples of one search", "[cpu]") {
  const TemporaryFolder folder;
  const std::filesystem::path paths[] = {folder.path() / "a.h5", folder.path() / "b.h5"};
  Content content = tiny_capture();
  write(paths[0], content);
  for (float& value : content.sets.at("layer_000/k").span()) value = -value;
  write(paths[1], content);
  const auto both = open_captures(paths);
  REQUIRE(both);
  REQUIRE(both->samples.size() == 2);
  CHECK(both->samples[0].sha256 != both->samples[1].sha256);
  const ScoreReport report = scored(*both->model, both->samples);
  const Captured second = opened(paths[1]);
  ScoreReport alone = scored(*second.model, second.samples);
  alone.table.samples.insert(alone.table.samples.begin(), report.table.samples[1]);
  CHECK(worst_recall_difference(alone, scored(*second.model, second.samples)) == 0);

  content.texts["model"] = "other";
  const std::filesystem::path with_other[] = {paths[0], folder.path() / "c.h5"};
  write(with_other[1], content);
  const auto mixed = open_captures(with_other);
  REQUIRE_FALSE(mixed);
  CHECK_THAT(mixed.error().what, Catch::Contains("c.h5: found other (llama, 2 layers") &&
                                     Catch::Contains("expected tiny"));
}

TEST_CASE("a capture gives its own sample or the beginning of it, and no logits", "[cpu]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "c.h5";
  write(path, tiny_capture());
  const Captured captured = opened(path);
  const auto forward = [&](std::vector<int32_t> ids, int64_t position) {
    int layers = 0;
    const auto done = captured.model->forward(
        ids,
        [&](const LayerQkv& layer, TensorView<float, 3>) -> Status {
          CHECK(layer.q.extent == std::array<int64_t, 3>{4, static_cast<int64_t>(ids.size()), 16});
          ++layers;
          return {};
        },
        {}, position);
    return done ? layers : -1;
  };
  auto ids = captured.samples[0].ids;
  CHECK(forward(ids, 0) == 2);
  CHECK(forward({ids.begin(), ids.begin() + 65}, 0) == 2);
  CHECK(forward(ids, 1) == -1);
  CHECK(forward({7}, 0) == -1);
  ids.push_back(0);
  CHECK(forward(ids, 0) == -1);
  CHECK(captured.model->logits({}, {}).code == Code::unsupported);
}

TEST_CASE("what is wrong in a capture is one error that names it", "[cpu]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "c.h5";
  const Content sound = [] {
    Content content;
    for (const std::string layer : {"layer_000/", "layer_001/"})
      for (const auto& [name, heads] : {std::pair{"q", 4}, std::pair{"k", 2}, std::pair{"v", 2}})
        content.sets.insert_or_assign(layer + name, Tensor<float, 3>({heads, kTokens, 16}));
    return content;
  }();
  const auto error = [&](const std::function<void(Content&)>& change) {
    Content content;
    content.texts = sound.texts;
    content.numbers = sound.numbers;
    for (const auto& [name, tensor] : sound.sets)
      content.sets.insert_or_assign(
          name, Tensor<float, 3>({tensor.extent(0), tensor.extent(1), tensor.extent(2)}));
    change(content);
    write(path, content);
    auto captured = open_captures({&path, 1});
    Status status = captured ? Status{} : captured.error();
    if (captured) {
      const auto hidden = captured->model->forward(
          captured->samples[0].ids, [](const LayerQkv&, TensorView<float, 3>) { return Status{}; },
          {});
      if (!hidden) status = hidden.error();
    }
    CHECK(status.what.find(path.string() + ": ") == 0);
    return status;
  };
  const auto names = [&](const std::function<void(Content&)>& change, const std::string& text) {
    CHECK_THAT(error(change).what, Catch::Contains(text));
  };
  names([](Content& c) { c.texts["schema"] = "mi.report"; },
        "found schema mi.report version 1, expected mi.capture version 1");
  names([](Content& c) { c.numbers["schema_version"] = 2; }, "mi.capture version 2, expected");
  names([](Content& c) { c.numbers.erase("heads"); }, "attribute heads");
  names([](Content& c) { c.numbers["heads"] = 0; }, "attribute heads: found 0, expected 1 to");
  names([](Content& c) { c.numbers["heads"] = 2.5; }, "attribute heads: found no integer");
  names([](Content& c) { c.numbers["kv_heads"] = 3; }, "expected a multiple of 3 KV heads");
  names([](Content& c) { c.numbers["tokens"] = 299; },
        "layer_000/q: found [4, 300, 16], expected [4, 299, 16]");
  names([](Content& c) { c.numbers["layers"] = 3; }, "layer_002/q");
  names([](Content& c) { c.numbers["scale"] = -1; }, "attribute scale: found -1");
  names([](Content& c) { c.texts["model"] = "\xff"; }, "expected UTF-8");
  names([](Content& c) { c.sets.erase("layer_001/v"); }, "layer_001/v");
  names([](Content& c) { c.sets.at("layer_001/k").view()[1][7][3] = std::nanf(""); },
        "layer_001/k: found nan at [1, 7, 3], expected finite numbers");
  names([](Content& c) { c.numbers["hidden"] = 64; }, "layer_000/residual");
  names([](Content& c) { c.numbers["hidden"] = 0; }, "attribute hidden: found 0");
  names([](Content& c) { c.numbers["softcap"] = -1; }, "attribute softcap: found -1");
  const auto put_sinks = [](Content& c, const std::string& layer, int64_t count, float value) {
    Tensor<float, 3> sinks({1, 1, count});
    std::fill(sinks.span().begin(), sinks.span().end(), value);
    c.sets.insert_or_assign(layer + "/sinks", std::move(sinks));
  };
  names([&](Content& c) { put_sinks(c, "layer_001", 4, 0); }, "layer_000/sinks");
  names([&](Content& c) { put_sinks(c, "layer_000", 3, 0); },
        "layer_000/sinks: found [3], expected [4]");
  names(
      [&](Content& c) {
        put_sinks(c, "layer_000", 4, 0);
        put_sinks(c, "layer_001", 4, INFINITY);
      },
      "layer_001/sinks: found inf at [0], expected finite numbers");
  for (const char* layers : {"5", "5,4", "1,2,3", "1,", "a,b", "-1,2", "1;2", ""})
    names([&](Content& c) { c.texts["attention_layers"] = layers; },
          "expected 2 rising numbers, comma-separated");

  write_file(path, "once upon a time");
  CHECK_THAT(open_captures({&path, 1}).error().what, Catch::Contains("found no HDF5 file"));
  const auto none = folder.path() / "none.h5";
  CHECK(open_captures({&none, 1}).error().code == Code::io);
}

}  // namespace
}  // namespace mi::search
