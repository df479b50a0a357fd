# Makes text for people of what "go test -json" prints.
#
#   want=packages        one line for each package as it ends
#   want=fail|skip       all that the tests said which ended so; the file twice

# field returns a text field of the line, "" if it has none. A quote inside a
# text has a backslash before it, so a name in there is not taken for a field.
function field(name) {
	if (!match($0, "\"" name "\":\"([^\"\\\\]|\\\\.)*\"")) return ""
	return substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 5)
}

function plain(s) {
	gsub(/\\\\/, "\001", s)
	gsub(/\\n/, "\n", s)
	gsub(/\\t/, "\t", s)
	gsub(/\\"/, "\"", s)
	gsub(/\\u003c/, "<", s)
	gsub(/\\u003e/, ">", s)
	gsub(/\\u0026/, "\\&", s)
	gsub(/\001/, "\\", s)
	return s
}

!/^\{/ { # what go itself has to say
	if (want == "packages" || want == "fail" && NR == FNR) print
	fflush()
	next
}

{ action = field("Action"); test = field("Test"); package = field("Package"); key = package " " test }

want == "packages" {
	if (test == "" && (action == "pass" || action == "fail")) {
		seconds = match($0, /"Elapsed":[0-9.]+/) ? substr($0, RSTART + 10, RLENGTH - 10) : 0
		printf "%-4s %-40s %6.1f s\n", action == "pass" ? "ok" : "FAIL", package, seconds
		fflush()
	}
	next
}

NR == FNR { # first reading: who ended so
	if (action == want && (test != "" || want == "fail")) ended[key] = 1
	next
}

action == "output" && key in ended { printf "%s", plain(field("Output")) }
want == "fail" && action == "build-output" { printf "%s", plain(field("Output")) }
