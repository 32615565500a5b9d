#!/usr/bin/env bash
# Everything about the GPU, on a machine that has one: tests, then benchmarks, then one table.
#
#   tests/gpu.sh build [FOLDER]   on a machine that builds: puts the two programs that it needs into FOLDER
#   tests/gpu.sh [FOLDER]         on a machine with a GPU and NVIDIA's driver: builds nothing, takes 8 minutes at
#                                 most; whole output goes to $OUT, or into FOLDER
#
# FOLDER is target/gpu unless named. Exit code 0: every test passed; 2: there is no GPU, or no programs.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."

most_seconds=480

die() {
  printf 'tests/gpu.sh: %s\n' "$*" >&2
  exit 2
}

build() {
  local folder=$1 test
  cargo build --release --locked -p wavenet-standalone
  test=$(cargo test --release --locked -p wavenet-engine --lib --no-run --message-format json |
    sed -n 's/.*"executable":"\([^"]*wavenet_engine-[^"]*\)".*/\1/p' | tail -n 1)
  [[ -x $test ]] || die "cargo named no test program"
  mkdir -p "$folder"
  cp "${CARGO_TARGET_DIR:-target}/release/wavenet" "$folder/wavenet"
  cp "$test" "$folder/engine-tests"
  # Without symbols they are a tenth of the size.
  ! command -v strip >/dev/null || strip "$folder/wavenet" "$folder/engine-tests"
  # Servers with a GPU seldom have ALSA's library, without which the program does not start.
  cp -L "$(ldd "$folder/wavenet" | sed -n 's/.*libasound[^ ]* => \([^ ]*\).*/\1/p')" "$folder/"
  ls -l "$folder"
}

# Seconds that are left.
left() {
  echo $((most_seconds - SECONDS))
}

# Runs a program for as long as there is time; `timeout 0` would be for ever.
in_time() {
  local seconds
  seconds=$(left)
  timeout --kill-after 5 "$((seconds > 0 ? seconds : 1))" "$@"
}

rows=()
speeds=()
failed=0

# A row of the table: what, how it went, how long it took.
row() {
  rows+=("$(printf '%-58s %-8s %6s s' "$1" "$2" "$3")")
  echo "${rows[-1]}"
}

# Runs one test of the engine on the card.
engine_test() {
  local name=$1 began=$SECONDS result=passed
  if (($(left) <= 0)); then
    result=late
  elif ! in_time "$folder/engine-tests" --ignored --exact "cuda::tests::on_card::$name" \
    >"$out/$name.log" 2>&1 || ! grep -q '1 passed' "$out/$name.log"; then
    result=FAILED
    tail -n 20 "$out/$name.log"
  fi
  [[ $result == passed ]] || failed=1
  row "${name//_/ }" "$result" $((SECONDS - began))
}

# A render on the card is the processor's, byte for byte.
same_file() {
  local name=$1 began=$SECONDS result=passed
  shift
  rm -rf "$out/on-gpu" "$out/on-cpu"
  if (($(left) <= 0)); then
    result=late
    failed=1
  elif ! in_time "$folder/wavenet" render --device cuda --out "$out/on-gpu" "$@" >"$out/render.log" 2>&1 ||
    ! in_time "$folder/wavenet" render --device cpu --out "$out/on-cpu" "$@" >>"$out/render.log" 2>&1 ||
    ! diff -rq "$out/on-gpu" "$out/on-cpu" >>"$out/render.log" || grep -q 'given up' "$out/render.log"; then
    result=FAILED
    failed=1
    cat "$out/render.log"
  fi
  row "$name" "$result" $((SECONDS - began))
  rm -rf "$out/on-gpu" "$out/on-cpu"
}

# A measurement into a file, or a row of the table that says why there is none.
bench() {
  local file=$1 began=$SECONDS
  shift
  if (($(left) <= 0)); then
    failed=1
    row "bench $*" late 0
  elif ! in_time "$folder/wavenet" bench --device cuda "$@" >"$file" 2>&1; then
    failed=1
    row "bench $*" FAILED $((SECONDS - began))
    tail -n 3 "$file"
  else
    return 0
  fi
  return 1
}

# A figure of it.
figure() {
  sed -n "s/^ *\"$2\": \([0-9.e+-]*\),*$/\1/p" "$1"
}

# One line of figures: a shape in int8, played so, by so many voices.
speed() {
  local mode=$1 shape=$2 voices=$3 file=$out/$1-$2-$3.json options=()
  [[ $mode == exact ]] || options=("--$mode")
  bench "$file" "${options[@]}" --shape "$shape" --dtype int8 --voices "$voices" --seconds 0.5 --json || return 0
  local samples times
  samples=$(figure "$file" samples_per_second)
  times=$(figure "$file" realtime_factor)
  if [[ -z $samples || -z $times ]]; then
    failed=1
    row "$file holds no figures" FAILED 0
    return 0
  fi
  speeds+=("$(printf '%-20s %-10s %6d %14.1f %12.2f' "$shape" "$mode" "$voices" "${samples}e-3" "$times")")
}

run() {
  folder=$1
  [[ -x $folder/wavenet && -x $folder/engine-tests ]] ||
    die "$folder lacks the programs: run 'tests/gpu.sh build' where there is Rust, and bring $folder here"
  export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  out=${OUT:-$folder}
  mkdir -p "$out"
  # What an earlier run measured is not this one's.
  rm -f "$out"/{micro,sweep}.txt "$out"/{exact,pipeline,fast}-*.json
  local devices card shape voices has_clusters=0
  devices=$("$folder/wavenet" devices 2>&1) || die "$folder/wavenet does not start: ${devices%%$'\n'*}"
  card=$(grep -o 'cuda: .*' <<<"$devices")
  case $card in
    *'not available'*) die "no GPU here: $card" ;;
  esac
  echo "$card"
  # Clusters, which the pipelines need, are there from compute capability 9.0 on.
  [[ $card =~ compute\ capability\ ([0-9]+) ]] && ((BASH_REMATCH[1] >= 9)) && has_clusters=1

  engine_test the_kernel_gives_the_scalar_logits
  engine_test the_kernel_gives_the_scalar_codes
  engine_test a_second_of_many_slices_is_the_scalar_one
  engine_test thousands_of_voices_give_the_scalar_logits
  engine_test what_does_not_fit_is_refused
  if ((has_clusters)); then
    engine_test the_pipeline_gives_the_scalar_logits_and_codes
    engine_test the_fast_mode_is_near_the_exact_one
    engine_test the_fast_mode_gives_the_same_codes_again
  fi
  local dtype
  for dtype in f32 bf16 int8; do
    same_file "a note of the piano, $dtype" --seconds 2 --dtype "$dtype"
  done
  same_file "a phrase of the piano" --midi demo/phrase.mid --dtype int8
  same_file "200 streams of the piano" --streams 200 --seconds 0.5 --dtype int8
  same_file "5000 streams of the piano" --streams 5000 --seconds 0.05 --dtype int8

  # Shapes are residual, skip and end channels, and layers.
  local shapes=('64,256,256,10' '64,256,256,20' '64,256,256,30' '128,256,256,30')
  for shape in "${shapes[@]}"; do
    speed exact "$shape" 1
    ((has_clusters)) || continue
    for voices in 1 4; do
      speed pipeline "$shape" "$voices"
    done
    [[ $shape == 128,* ]] && continue
    for voices in 1 8; do
      speed fast "$shape" "$voices"
    done
  done
  for shape in "${shapes[@]}"; do
    for voices in 750 2000 3000 6000; do
      speed exact "$shape" "$voices"
    done
  done
  bench "$out/micro.txt" --micro || true
  bench "$out/sweep.txt" --sweep --seconds 0.3 || true

  printf '\n%s\n%s\n\n' "$card" "$(date -u +%F)"
  printf '%s\n' "${rows[@]}"
  printf '\n%-20s %-10s %6s %14s %12s\n' 'shape, int8' mode voices 'thousand/s' 'x real each'
  printf '%s\n' "${speeds[@]}"
  echo
  # They are not there where time was short.
  cat "$out"/{micro,sweep}.txt 2>/dev/null || true
  printf '\n%s after %d s\n' "$( ((failed)) && echo 'something FAILED' || echo 'everything passed')" "$SECONDS"
  return $failed
}

case ${1:-} in
  build) build "${2:-target/gpu}" ;;
  *) run "${1:-target/gpu}" ;;
esac
