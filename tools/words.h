// Options as a file records them: in one order and without paths, so that its bytes do not depend
// on where it was made.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "libsearch/model/utf8.h"

namespace mi::tools {

class Words {
 public:
  // Nothing where the value is empty or the standard one.
  void add(std::string_view name, const std::string& value, std::string_view standard = "") {
    if (value.empty() || value == standard) return;
    if (!text_.empty()) text_ += ' ';
    text_ += name;
    text_ += ' ' + value;
  }
  // Files are UTF-8: a name that is not is told now, not when a file with it is to be written.
  [[nodiscard]] Status add_file(std::string_view name, const std::string& path) {
    const std::string file = std::filesystem::path(path).filename().string();
    if (const auto at = search::find_invalid_utf8(file))
      return fail(Code::invalid_argument,
                  fmt::format("{} {}: its name is not valid UTF-8 at byte {}", name, file, *at));
    add(name, file);
    return {};
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace mi::tools
