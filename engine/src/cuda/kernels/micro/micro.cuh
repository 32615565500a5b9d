// What the measurements of `wavenet bench --micro` leave for the host.
#pragma once

// What a kernel found. 16 bytes.
struct Found {
  unsigned long long cycles;
  unsigned turns;
  unsigned sum;  // of what was made, where something was
};
