// gomap COUNT huge|plain: Go's own map, map[int64][8]float64, asked like tables.cpp: "NAME<tab>hit|miss<tab>SET" in,
// nanoseconds per key out.
//
// Huge pages: Go offers no option, so after building the whole heap is advised and collapsed by madvise
// (MADV_HUGEPAGE, then MADV_COLLAPSE, Linux 6.1 and later; where that fails Go runs on what it got, and says so).
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	rowItems     = 8
	queryCount   = 1000000
	madvHugepage = 14
	madvCollapse = 25
	prSetThpOff  = 41
)

type row [rowItems]float64

func splitmix64(number uint64) int64 {
	mixed := (number + 1) * 0x9E3779B97F4A7C15
	mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9
	mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB
	return int64(mixed ^ (mixed >> 31))
}

func queryPosition(set, i, count uint64) uint64 {
	return uint64(splitmix64((set+1)*1000003*queryCount+i)) % count
}

// collapseHeap asks for huge pages under every writable anonymous mapping; returns how many bytes were refused.
func collapseHeap() (refused uint64) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(maps), "\n") {
		fields := strings.Fields(line)
		if len(fields) != 5 || !strings.HasPrefix(fields[1], "rw") {
			continue
		}
		ends := strings.Split(fields[0], "-")
		first, _ := strconv.ParseUint(ends[0], 16, 64)
		last, _ := strconv.ParseUint(ends[1], 16, 64)
		first, last = (first+1<<21-1)&^(1<<21-1), last&^(1<<21-1)
		if first >= last {
			continue
		}
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, uintptr(first), uintptr(last-first), madvHugepage)
		_, _, failed := syscall.Syscall(syscall.SYS_MADVISE, uintptr(first), uintptr(last-first), madvCollapse)
		if failed != 0 {
			refused += last - first
		}
	}
	return refused
}

func main() {
	runtime.GOMAXPROCS(1)
	huge := os.Args[2] == "huge"
	if !huge {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, prSetThpOff, 1, 0, 0, 0, 0)
	}
	count, err := strconv.ParseUint(os.Args[1], 10, 64)
	if err != nil {
		panic(err)
	}
	table := make(map[int64]row, count)
	for i := uint64(0); i < count; i++ {
		var r row
		for j := range r {
			r[j] = float64(i*rowItems + uint64(j))
		}
		table[splitmix64(i)] = r
	}
	out := make([]row, queryCount)
	keys := make([]int64, queryCount)
	for i := range out {
		out[i][0] = 1
	}
	debug.SetGCPercent(-1)
	runtime.GC()
	if huge {
		if refused := collapseHeap(); refused > 0 {
			fmt.Fprintf(os.Stderr, "Go: no huge pages for %d MiB of its heap\n", refused>>20)
		}
	}
	fmt.Println("Go map")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		parts := strings.Split(lines.Text(), "\t")
		hit := parts[1] == "hit"
		set, _ := strconv.ParseUint(parts[2], 10, 64)
		for i := range keys {
			position := queryPosition(set, uint64(i), count)
			if !hit {
				position += count
			}
			keys[i] = splitmix64(position)
		}
		start := time.Now()
		for i, key := range keys {
			out[i] = table[key]
		}
		each := float64(time.Since(start).Nanoseconds()) / queryCount
		for i := range out {
			wanted := 0.0
			if hit {
				wanted = float64(queryPosition(set, uint64(i), count)*rowItems + 3)
			}
			if out[i][3] != wanted {
				panic("wrong answer")
			}
		}
		fmt.Println(each)
	}
}
