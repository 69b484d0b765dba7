// Progress on stderr: a bar with the time left on a terminal, a line per tenth elsewhere.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "tools/terminal.h"

namespace mi::tools {

class Progress {
 public:
  Progress();
  ~Progress();  // ends the bar's line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void update(std::string_view stage, double fraction);

 private:
  using Clock = std::chrono::steady_clock;
  void end_line();
  Terminal terminal_;
  std::string stage_;
  Clock::time_point start_;
  double base_ = 0;  // at the stage's first report: a search that is resumed had done it before
  Clock::time_point base_time_;
  int last_tenth_ = -1;
  bool line_open_ = false;
};

// "41 s", "3 min 20 s", "1 h 05 min".
[[nodiscard]] std::string duration_text(double seconds);

}  // namespace mi::tools
