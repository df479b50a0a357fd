package protocol

import "fmt"

// A Code says what went wrong. Values are never changed and never used again; a
// receiver treats one that it does not know as CodeFailure.
type Code uint16

// The codes. Which message can get which stands in docs/protocol.md.
const (
	CodeFailure     Code = 1
	CodeUnsupported Code = 2
	CodeBadMessage  Code = 3
	CodeTooLarge    Code = 4
	CodeBadState    Code = 5
	CodeLimit       Code = 6
	CodeCancelled   Code = 7
	CodeShutdown    Code = 8
	CodeIdle        Code = 9
	CodeVersion     Code = 10
	CodeDone        Code = 11

	CodeAuth       Code = 16
	CodeMoreAuth   Code = 17
	CodeNoHostKey  Code = 18
	CodeJoin       Code = 19
	CodeRestricted Code = 20

	CodeNotFound   Code = 32
	CodeExists     Code = 33
	CodePermission Code = 34
	CodeNotRegular Code = 35
	CodeNotDir     Code = 36
	CodeIsDir      Code = 37
	CodeNotEmpty   Code = 38
	CodeEscape     Code = 39
	CodeNoSpace    Code = 40
	CodeQuota      Code = 41
	CodeBadPath    Code = 42
	CodeClosed     Code = 43

	CodeTakenOver     Code = 64
	CodeBusy          Code = 65
	CodeSourceChanged Code = 66
	CodeIntegrity     Code = 67
	CodeWrongOffset   Code = 68
	CodeWindow        Code = 69
)

var codeNames = map[Code]string{ //nolint:gochecknoglobals // a table
	CodeFailure:     "FAILURE",
	CodeUnsupported: "UNSUPPORTED",
	CodeBadMessage:  "BAD_MESSAGE",
	CodeTooLarge:    "TOO_LARGE",
	CodeBadState:    "BAD_STATE",
	CodeLimit:       "LIMIT",
	CodeCancelled:   "CANCELLED",
	CodeShutdown:    "SHUTDOWN",
	CodeIdle:        "IDLE",
	CodeVersion:     "VERSION",
	CodeDone:        "DONE",

	CodeAuth:       "AUTH",
	CodeMoreAuth:   "MORE_AUTH",
	CodeNoHostKey:  "NO_HOST_KEY",
	CodeJoin:       "JOIN",
	CodeRestricted: "RESTRICTED",

	CodeNotFound:   "NOT_FOUND",
	CodeExists:     "EXISTS",
	CodePermission: "PERMISSION",
	CodeNotRegular: "NOT_REGULAR",
	CodeNotDir:     "NOT_DIR",
	CodeIsDir:      "IS_DIR",
	CodeNotEmpty:   "NOT_EMPTY",
	CodeEscape:     "ESCAPE",
	CodeNoSpace:    "NO_SPACE",
	CodeQuota:      "QUOTA",
	CodeBadPath:    "BAD_PATH",
	CodeClosed:     "CLOSED",

	CodeTakenOver:     "TAKEN_OVER",
	CodeBusy:          "BUSY",
	CodeSourceChanged: "SOURCE_CHANGED",
	CodeIntegrity:     "INTEGRITY",
	CodeWrongOffset:   "WRONG_OFFSET",
	CodeWindow:        "WINDOW",
}

// String returns the code's name in docs/protocol.md, or its number.
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return fmt.Sprintf("code %d", uint16(c))
}

// An Error says why a frame was refused: what to tell the peer, and where it
// went wrong.
type Error struct {
	Code  Code   // BAD_MESSAGE, TOO_LARGE, BAD_PATH or UNSUPPORTED
	Type  Type   // of the frame; 0 where it is not known
	Field string // as docs/protocol.md names it; "" for the frame as a whole
}

// Error implements error.
func (e *Error) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("%s: %s", e.Type, e.Code)
	}
	return fmt.Sprintf("%s, field %s: %s", e.Type, e.Field, e.Code)
}
