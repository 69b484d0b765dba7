// Options as a file records them: in one order and without paths, so that its bytes do not depend
// on where it was made.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

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
  void add_file(std::string_view name, const std::string& path) {
    add(name, std::filesystem::path(path).filename().string());
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace mi::tools
