// Properties of the config file over random configs, and what saving leaves behind.
#include <catch2/catch.hpp>

#include <algorithm>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include <fmt/format.h>

#include "libruntime/atomic_file.h"
#include "libruntime/config.h"
#include "tests/support.h"
#include "tests/temporary_folder.h"

namespace mi::runtime {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

size_t files_in(const test::TemporaryFolder& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder.path()), {}));
}

class RandomConfig {
 public:
  explicit RandomConfig(uint64_t seed) : engine_(seed) {}

  HeadConfig make() {
    HeadConfig config;
    config.model.name = text();
    config.model.architecture = text();
    config.model.layers = 1 + below(4);
    config.model.head_dim = 1 + below(256);
    config.model.rope_theta = real();
    if (below(2) == 0) config.model.scale = 1 + real();
    if (below(2) == 0) config.model.softcap = 1 + real();
    if (below(2) == 0)
      for (int layer = 0; std::ssize(config.model.attention_layers) < config.model.layers;)
        config.model.attention_layers.push_back(layer += 1 + below(3));
    config.model.fingerprint = text();
    config.model.kv_heads = 1 + below(3);
    config.model.heads = config.model.kv_heads * (1 + below(3));
    config.producer = {text(), text(), text(), engine_()};
    for (int64_t length = 0; below(3) != 0 || length == 0;)
      config.calibration.lengths.push_back(length += 1 + below(5000));
    lengths_ = config.calibration.lengths;
    for (int i = below(3); i > 0; --i) config.calibration.samples.push_back(note());
    for (int i = below(3); i > 0; --i) config.calibration.held_out.push_back(note());
    config.limit = {fraction(), by_length(), "square", "per-head", real()};
    for (auto& [length, share] : config.limit.achieved) share = std::min(share, config.limit.share);
    if (below(2) == 0) {
      config.limit.loss = real();
      config.limit.gap = std::min(config.limit.gap, config.limit.loss);
    }
    config.quality = {fraction(), fraction(), fraction(), fraction(), {}};
    if (below(2) == 0)
      config.quality.held_out = HeldOut{fraction(), real(), real(), fraction(), by_length()};
    for (int i = below(3); i > 0; --i) config.warnings.push_back("w" + text());
    config.kernel.last = below(200);
    config.kernel.dense_below = below(3) * below(2000);
    config.layers.resize(static_cast<size_t>(config.model.layers));
    for (auto& layer : config.layers) {
      layer.resize(static_cast<size_t>(config.model.heads));
      for (HeadEntry& head : layer) head = entry();
    }
    return config;
  }

 private:
  int below(int bound) { return static_cast<int>(engine_() % static_cast<uint64_t>(bound)); }
  double fraction() { return (static_cast<double>(engine_() >> 11) + 1) * 0x1p-53; }
  // Any finite positive double, subnormal ones too: every bit pattern must survive.
  double real() { return std::bit_cast<double>(engine_() % 0x7fefffffffffffffu + 1); }
  double count() { return below(2) == 0 ? 1 + below(9) : static_cast<double>(engine_() >> 24); }
  SampleNote note() {
    const auto digits = static_cast<size_t>(64 * below(2));
    return {text(), 1 + below(99999), std::string(digits, 'a')};
  }

  std::string text() {
    static const std::vector<std::string> pieces = {"a",
                                                    "Z",
                                                    "0",
                                                    " ",
                                                    ":",
                                                    ": ",
                                                    "#",
                                                    " #",
                                                    "\"",
                                                    "'",
                                                    "\\",
                                                    "\n",
                                                    "\t",
                                                    "{",
                                                    "}",
                                                    "[",
                                                    "]",
                                                    ",",
                                                    "&",
                                                    "*",
                                                    "!",
                                                    "|",
                                                    ">",
                                                    "%",
                                                    "@",
                                                    "`",
                                                    "-",
                                                    "- ",
                                                    "?",
                                                    "~",
                                                    "é",
                                                    "中",
                                                    "😀",
                                                    "\x7f",
                                                    "\x01",
                                                    "null",
                                                    "true",
                                                    ".5",
                                                    "\r\n",
                                                    "+",
                                                    "sha256:",
                                                    "\xc2\x85",
                                                    "\xe2\x80\xa8",
                                                    "\xef\xbb\xbf",
                                                    "=",
                                                    "<<",
                                                    "\x04"};
    std::string out;
    for (int i = below(6); i > 0; --i)
      out += pieces[static_cast<size_t>(below(static_cast<int>(pieces.size())))];
    return out;
  }

  std::map<int64_t, double> by_length() {
    std::map<int64_t, double> values;
    for (const int64_t length : lengths_)
      if (below(4) != 0) values[length] = fraction();
    return values;
  }
  template <class Make>
  PerLength per_length(Make make) {
    PerLength values;
    if (below(2) == 0) values[0] = make();
    while (values.empty())
      for (const int64_t length : lengths_)
        if (below(2) == 0) values[length] = make();
    return values;
  }
  PerLength counts() {
    return per_length([&] { return count(); });
  }

  void cap(HeadEntry& head) {
    if (below(2) == 0) head.share = per_length([&] { return fraction(); });
  }
  void estimated(HeadEntry& head) {
    head.sink = below(3) * 16;
    head.local = counts();
    const int form = below(3);
    if (form != 0) head.density = per_length([&] { return real(); });
    if (form != 1) head.share = per_length([&] { return fraction(); });
  }

  HeadEntry entry() {
    HeadEntry head;
    head.recall = below(5) == 0 ? 0 : fraction();
    head.pattern = static_cast<Pattern>(below(6));
    switch (head.pattern) {
      case Pattern::dense:
        break;
      case Pattern::a_shape:
        head.local = counts();
        cap(head);
        break;
      case Pattern::vertical_slash:
        if (below(2) == 0) {
          estimated(head);
        } else {
          head.vertical = counts();
          head.slash = counts();
          cap(head);
        }
        break;
      case Pattern::block_sparse:
        if (below(2) == 0) head.estimate = BlockEstimate::antidiagonal;
        if (head.estimate == BlockEstimate::antidiagonal) head.stride = below(2) == 0 ? 8 : 16;
        if (below(2) == 0)
          estimated(head);
        else {
          head.blocks = counts();
          cap(head);
        }
        break;
      case Pattern::stripe:
      case Pattern::stripe_vertical_slash:
        estimated(head);
        break;
    }
    return head;
  }

  std::mt19937_64 engine_;
  std::vector<int64_t> lengths_;
};

}  // namespace

TEST_CASE("any config reads back as it was, and its text as the same bytes") {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    const HeadConfig config = RandomConfig(seed).make();
    const std::string text = dump_config(config);
    const auto back = parse_config(text, "random");
    INFO("seed " << seed << ": " << (back ? "" : back.error().what) << "\n" << text);
    REQUIRE(back);
    REQUIRE(*back == config);
    REQUIRE(dump_config(*back) == text);
  }
}

TEST_CASE("a damaged config is refused or is another config, never a crash") {
  const std::string text = dump_config(RandomConfig(3).make());
  std::mt19937_64 engine(1);
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = text;
    for (uint64_t edits = 1 + engine() % 3; edits > 0; --edits) {
      const size_t at = engine() % damaged.size();
      if (engine() % 3 == 0)
        damaged.erase(at, 1 + engine() % 20);
      else if (engine() % 2 == 0)
        damaged.insert(at, 1, static_cast<char>(engine()));
      else
        damaged[at] = static_cast<char>(engine());
      if (damaged.empty()) damaged = "{";
    }
    const auto config = parse_config(damaged, "damaged");
    if (!config) continue;
    const std::string canonical = dump_config(*config);
    const auto again = parse_config(canonical, "again");
    INFO((again ? "" : again.error().what) << "\n" << canonical);
    REQUIRE(again);
    REQUIRE(dump_config(*again) == canonical);
  }
}

TEST_CASE("save then load gives the config, and nothing else is left in the folder") {
  const test::TemporaryFolder folder;
  const HeadConfig config = RandomConfig(11).make();
  const fs::path path = folder.path() / "c.yaml";
  REQUIRE(save_config(config, path));
  REQUIRE(save_config(config, path));
  const auto back = load_config(path);
  REQUIRE(back);
  CHECK(*back == config);
  CHECK(files_in(folder) == 1);
}

TEST_CASE("a config that its own reader would refuse is not written") {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "c.yaml";
  std::ofstream(path) << "earlier";
  HeadConfig config = RandomConfig(11).make();
  config.limit.share = 2;
  CHECK(save_config(config, path).code == Code::invalid_argument);
  config.limit.share = std::nan("");
  CHECK(save_config(config, path).code == Code::invalid_argument);
  config.limit.share = 0.5;
  config.layers[0][0] = HeadEntry{};
  config.layers[0][0].sink = 16;  // dense takes none
  CHECK(save_config(config, path).code == Code::invalid_argument);
  config.layers[0][0].sink = 0;
  config.layers[0][0].stride = 8;  // not written for dense, so it would be lost
  CHECK(save_config(config, path).code == Code::invalid_argument);
  CHECK(read(path) == "earlier");
  CHECK(files_in(folder) == 1);
}

TEST_CASE("a failed write leaves the earlier file and no temporary one") {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "out.txt";
  REQUIRE(write_file_atomically(path, "earlier"));

  // A limit on file size stands for a full disk.
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 4096;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const Status status = write_file_atomically(path, std::string(100'000, 'x'));
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);

  CHECK(status.code == Code::io);
  CHECK(status.what.find("cannot write") != std::string::npos);
  CHECK(read(path) == "earlier");
  CHECK(files_in(folder) == 1);
}

TEST_CASE("what cannot be written is refused by name") {
  const test::TemporaryFolder folder;
  std::ofstream(folder.path() / "file") << "x";
  fs::create_directory(folder.path() / "sub");
  for (const fs::path& path :
       {folder.path() / "missing" / "c.yaml", folder.path() / "file" / "c.yaml",
        folder.path() / "sub", fs::path("/dev/null"), folder.path() / ""}) {
    const Status status = write_file_atomically(path, "text");
    INFO(path);
    CHECK(status.code == Code::io);
    CHECK(!status.what.empty());
  }
  CHECK(files_in(folder) == 2);
}

TEST_CASE("a path that names an open descriptor is written to, not replaced") {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "out";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT, 0600);
  REQUIRE(fd >= 0);
  const std::string name = fmt::format("/dev/fd/{}", fd);
  fs::create_symlink(name, folder.path() / "link");
  CHECK(check_writable(name));
  CHECK(write_file_atomically(name, "a"));
  CHECK(write_file_atomically(fmt::format("/proc/self/fd/{}", fd), "b"));
  CHECK(write_file_atomically(folder.path() / "link", "c"));
  CHECK(is_same_file(name, path));
  ::close(fd);
  CHECK(read(path) == "abc");
  CHECK(check_writable(name).code == Code::io);
  CHECK(write_file_atomically(name, "d").code == Code::io);
  CHECK(files_in(folder) == 2);
}

TEST_CASE("one file by several paths, there or not") {
  const test::TemporaryFolder folder;
  const fs::path there = folder.path() / "there";
  const fs::path absent = folder.path() / "absent";
  std::ofstream(there) << "x";
  fs::create_symlink("there", folder.path() / "link");
  fs::create_symlink("absent", folder.path() / "dangling");
  fs::create_directory_symlink(folder.path(), folder.path() / "again");
  CHECK(is_same_file(there, folder.path() / "link"));
  CHECK(is_same_file(there, fs::relative(there)));
  CHECK(is_same_file(folder.path() / "again" / "there", there));
  CHECK(is_same_file(absent, folder.path() / "dangling"));
  CHECK(is_same_file(absent, fs::relative(absent)));
  CHECK(is_same_file(folder.path() / "again" / "absent", absent));
  CHECK(!is_same_file(there, absent));
  CHECK(!is_same_file(absent, folder.path() / "absent.part"));
  CHECK(!is_same_file(folder.path() / "no-folder" / "a", folder.path() / "no-folder" / "b"));
}

TEST_CASE("a symlink stays one, and its target is replaced") {
  const test::TemporaryFolder folder;
  std::ofstream(folder.path() / "target") << "old";
  fs::create_symlink("target", folder.path() / "link");
  REQUIRE(write_file_atomically(folder.path() / "link", "new"));
  CHECK(fs::is_symlink(folder.path() / "link"));
  CHECK(read(folder.path() / "target") == "new");
}

}  // namespace mi::runtime
