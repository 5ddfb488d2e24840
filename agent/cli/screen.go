package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
)

// screen is a terminal that is drawn on as a whole. Its signals end nothing: Main's context does.
type screen struct {
	out     *os.File
	in      *os.File // nil: there are no keys
	before  *unix.Termios
	resized chan os.Signal
}

// terminal is what the output is drawn on, if it is one.
func (s *session) terminal() (*screen, bool) {
	out, ok := s.Stdout.(*os.File)
	if !ok {
		return nil, false
	}
	if _, err := unix.IoctlGetWinsize(int(out.Fd()), unix.TIOCGWINSZ); err != nil {
		return nil, false
	}
	sc := &screen{out: out, resized: make(chan os.Signal, 1)}
	if in, ok := s.Stdin.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS); err == nil {
			sc.in = in
		}
	}
	return sc, true
}

// What a terminal is told (ECMA-48, and the private modes of xterm that all others have taken over): another screen, where nothing
// of what stood there is lost; no cursor; no lines that wrap; and that what comes belongs together.
const (
	toScreen   = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
	fromScreen = "\x1b[?2026l\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
	together   = "\x1b[?2026h\x1b[H"
	asOne      = "\x1b[J\x1b[?2026l"
	restOfLine = "\x1b[K"
)

// begin takes the terminal. Keys come one by one and are not shown; those of signals go on to be signals, but that nothing stops
// the program while it holds the screen.
func (sc *screen) begin() error {
	if sc.in != nil {
		fd := int(sc.in.Fd())
		mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return fmt.Errorf("ask how the terminal is set: %w", err)
		}
		before := *mode
		sc.before = &before
		mode.Lflag &^= unix.ICANON | unix.ECHO
		mode.Cc[unix.VMIN], mode.Cc[unix.VTIME], mode.Cc[unix.VSUSP], mode.Cc[unix.VQUIT] = 1, 0, 0, 0
		if err := unix.IoctlSetTermios(fd, unix.TCSETS, mode); err != nil {
			return fmt.Errorf("set the terminal: %w", err)
		}
	}
	signal.Notify(sc.resized, unix.SIGWINCH)
	if _, err := sc.out.WriteString(toScreen); err != nil {
		sc.end()
		return fmt.Errorf("write to the terminal: %w", err)
	}
	return nil
}

// end gives the terminal back as it was. A terminal that is gone needs nothing.
func (sc *screen) end() {
	signal.Stop(sc.resized)
	_, _ = sc.out.WriteString(fromScreen)
	if sc.before != nil {
		_ = unix.IoctlSetTermios(int(sc.in.Fd()), unix.TCSETSW, sc.before)
	}
}

// endOnPanic is for a goroutine, whose panic does not pass the one that holds the screen.
func (sc *screen) endOnPanic() {
	if cause := recover(); cause != nil {
		sc.end()
		panic(cause)
	}
}

// draw shows a frame of the terminal's size, all of it in one write: nothing flickers.
func (sc *screen) draw(frame func(w, h int) []string) error {
	size, err := unix.IoctlGetWinsize(int(sc.out.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return fmt.Errorf("ask for the size of the terminal: %w", err)
	}
	w, h := int(size.Col), int(size.Row)
	if w == 0 || h == 0 { // a terminal that does not know
		w, h = 80, 24
	}
	lines := frame(w, h)
	for i, line := range lines {
		if columns(line) < w { // behind a full line the cursor stands on its last column still
			lines[i] += restOfLine
		}
	}
	rest := asOne
	if len(lines) >= h {
		rest = strings.TrimPrefix(asOne, "\x1b[J")
	}
	text := together + strings.Join(lines, "\r\n") + rest
	if _, err := sc.out.WriteString(text); err != nil {
		return fmt.Errorf("write to the terminal: %w", err)
	}
	return nil
}

// keyWait is how long the end of a context may go unnoticed, in ms.
const keyWait = 100

// keys hands on what is typed until ctx ends; it is closed when nothing more can be typed.
func (sc *screen) keys(ctx context.Context) <-chan byte {
	keys := make(chan byte)
	if sc.in == nil {
		return nil
	}
	fd := int(sc.in.Fd())
	go func() {
		defer sc.endOnPanic()
		defer close(keys)
		buffer := make([]byte, 64)
		for ctx.Err() == nil {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, keyWait) //nolint:gosec // a descriptor
			if err == unix.EINTR || err == nil && n == 0 {
				continue
			}
			if err != nil {
				return
			}
			n, err = unix.Read(fd, buffer)
			if err == unix.EINTR {
				continue
			}
			if err != nil || n == 0 {
				return
			}
			for _, key := range letters(buffer[:n]) {
				select {
				case keys <- key:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return keys
}

// letters are the keys without those that send sequences (ECMA-48 5.4: ESC [, parameters, a final byte; and ESC O of function keys).
func letters(typed []byte) (keys []byte) {
	for i := 0; i < len(typed); i++ {
		if typed[i] != 0x1b {
			keys = append(keys, typed[i])
			continue
		}
		if i++; i == len(typed) || typed[i] != '[' && typed[i] != 'O' {
			continue
		}
		for i++; i < len(typed) && (typed[i] < 0x40 || typed[i] > 0x7e); {
			i++
		}
	}
	return keys
}
