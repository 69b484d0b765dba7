// Attention over tensors that others run too: q, k and v come from files, the output goes to one,
// so that a script can time contestants in turns and compare what they computed.
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "libruntime/plan.h"
#include "libsearch/model/mapped_file.h"
#include "tools/mi-bench/commands.h"
#include "tools/mi-bench/timing.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

struct Shape {
  int heads = 0, kv_heads = 0, head_dim = 0;
  int64_t tokens = 0;
};

Result<Shape> load_shape(const std::filesystem::path& path) {
  MI_TRY(const std::string text, search::read_text_file(path));
  const auto json = nlohmann::json::parse(text, nullptr, false);
  Shape shape;
  const auto read = [&](const char* key, auto& value, int64_t most) {
    const auto found = json.is_object() ? json.find(key) : json.end();
    if (found == json.end() || !found->is_number_integer()) return false;
    const auto number = found->get<int64_t>();
    value = static_cast<std::remove_reference_t<decltype(value)>>(number);
    return number > 0 && number <= most;
  };
  if (!read("heads", shape.heads, 1024) || !read("kv_heads", shape.kv_heads, 1024) ||
      !read("head_dim", shape.head_dim, 1024) || !read("tokens", shape.tokens, int64_t{1} << 24))
    return fail(Code::schema, path.string() +
                                  ": expected an object with heads, kv_heads, tokens and head_dim "
                                  "as positive integers");
  return shape;
}

// bf16 elements of a file, as T.
template <class T>
Result<Tensor<T, 3>> load(const std::filesystem::path& path, std::array<int64_t, 3> extent) {
  MI_TRY(const auto file, search::MappedFile::open(path));
  Tensor<T, 3> tensor(extent);
  const auto values = tensor.span();
  if (file->bytes().size() != values.size() * sizeof(bf16))
    return fail(Code::schema, fmt::format("{}: found {} bytes, expected {} (bf16 [{}])",
                                          path.string(), file->bytes().size(),
                                          values.size() * sizeof(bf16), fmt::join(extent, ", ")));
  const auto* from = reinterpret_cast<const bf16*>(file->bytes().data());
  for (size_t i = 0; i < values.size(); ++i) {
    if constexpr (std::is_same_v<T, bf16>) {
      values[i] = from[i];
    } else {
      values[i] = to_float(from[i]);
    }
  }
  return tensor;
}

struct Report {
  std::string_view backend;
  int threads = 0;
  double executed = 0;     // tiles, share of dense
  std::vector<double> ms;  // of every round
};

template <class T>
Result<Report> measure(const BenchOptions& options) {
  const std::filesystem::path folder = options.folder;
  MI_TRY(const Shape shape, load_shape(folder / "shape.json"));
  MI_TRY(const auto q, load<T>(folder / "q.bin", {shape.heads, shape.tokens, shape.head_dim}));
  MI_TRY(const auto k, load<T>(folder / "k.bin", {shape.kv_heads, shape.tokens, shape.head_dim}));
  MI_TRY(const auto v, load<T>(folder / "v.bin", {shape.kv_heads, shape.tokens, shape.head_dim}));
  Tensor<T, 3> o({shape.heads, shape.tokens, shape.head_dim});

  MI_TRY(const kernels::Backend* backend, kernels::choose_backend(options.backend));
  const int threads = threads_of(options);
  runtime::HeadEntry entry;
  if (options.share > 0) {
    entry.pattern = runtime::Pattern::stripe;
    entry.share[0] = options.share;
  }
  MI_TRY(const auto plan,
         runtime::Plan::make(
             one_layer(shape.heads, shape.kv_heads, shape.head_dim, entry),
             {.n_q = shape.tokens,
              .n_kv = shape.tokens,
              .heads = shape.heads,
              .kv_heads = shape.kv_heads,
              .head_dim = shape.head_dim,
              .element = std::is_same_v<T, bf16> ? runtime::Element::bf16 : runtime::Element::f32},
             *backend, threads));
  AlignedBuffer<std::byte> workspace(plan.workspace_bytes());
  std::vector<runtime::HeadStats> stats(static_cast<size_t>(shape.heads));
  Status failed;
  const auto timings =
      alternate({[&] {
                  runtime::Unspent unspent;
                  if (Status s = plan.run(0, q.view(), k.view(), v.view(), o.view(), {},
                                          workspace.data(), stats, unspent);
                      !s)
                    failed = s;
                }},
                options.rounds);
  MI_CHECK(failed);
  MI_CHECK(write_bytes(folder / "o.bin", std::as_bytes(o.span())));
  const int64_t blocks = (shape.tokens + kernels::kRowBlock - 1) / kernels::kRowBlock;
  Report result{backend->name(), threads, 0, timings[0].all};
  for (const auto& head : stats)
    result.executed += static_cast<double>(head.tiles) /
                       (static_cast<double>(blocks * (blocks + 1)) / 2 * shape.heads);
  return result;
}

}  // namespace

int run_tensors(const BenchOptions& options) {
  const auto result = options.element == "f32" ? measure<float>(options) : measure<bf16>(options);
  if (!result) return report(kBench, result.error());
  if (options.json) {
    const nlohmann::json json = {{"backend", result->backend},
                                 {"threads", result->threads},
                                 {"executed", result->executed},
                                 {"ms", result->ms}};
    return report(kBench, print_result(json.dump() + "\n"));
  }
  return report(kBench, print_result(fmt::format("{} ms, {:.1f} % of dense tiles, {}, {} threads\n",
                                                 fmt::join(result->ms, " "), 100 * result->executed,
                                                 result->backend, result->threads)));
}

}  // namespace mi::tools
