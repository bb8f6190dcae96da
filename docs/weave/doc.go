// Command weave keeps the lessons true. The lesson of a step, its README.md, quotes
// code, shows what changed since the step before and shows sessions at a terminal;
// weave writes the quotes from the code, checks that they are complete and current,
// and runs the sessions.
//
// It does not write prose, fetch what a link leads to, or commit anything.
//
//	weave fill                        write the generated blocks of all Markdown files
//	weave check [-v]                  fail if a lesson, or what a test says of it, is not true
//	weave run [-update] [STEP...]     run the console blocks
//	weave shell [-user] STEP          a shell, root's or not, in which they work as well
//	weave diff STEP [DIR]             what a step changes; with DIR: what a learner's does
//	weave site                        print what the web site is made from
//	weave serve DIR                   show it
//	weave forward [-base REV] STEP    carry a fix to the later steps
//
// A STEP is written 3, 03, step03 or step03-pid-mount. A step's code is every file in
// its folder but README.md and the tests. The exit status is 0, 1 when there were
// problems, 2 when the command line made no sense.
//
// # Directives
//
// A directive is an HTML comment on a line of its own. These three generate what
// stands between them and the next "weave: end", which fill adds if there is none:
//
//	<!-- weave: code FILE [DECL] [/FROM/ [/TO/]] -->
//	<!-- weave: diff FILE [DECL] -->
//	<!-- weave: end -->
//
// FILE is relative to the step's folder in a lesson, to the repository's root
// elsewhere. DECL is a function, a Type.Method, a type, a constant, a variable,
// "imports" or "package". FROM and TO are regular expressions: code shows the lines
// from the first match of FROM to the first match of TO at or after it, or the one
// line if there is no TO. In them \/ is a slash.
//
// So do these, which take nothing:
//
//	<!-- weave: table -->          the steps, for the README
//	<!-- weave: diffs -->          the files of every step's diff
//	<!-- weave: experiments -->    experiments.tsv, with lessons and tests
//
// In a lesson:
//
//	<!-- weave: budget CHANGED REMOVED because REASON -->    the diff may be larger than usual
//	<!-- weave: without "Break it" because REASON -->        the lesson has no such part
//	<!-- E05 E07 -->                                         experiments that the text here shows
//
// Before a console block:
//
//	<!-- weave: norun because REASON -->    do not run it
//	<!-- weave: only cgroup=v1 -->          run it on cgroup v1 only, or on v2
//
// # Console blocks
//
// A fenced block with the language console is a session. A line that begins with "# "
// is a command for root, one with "$ " a command for an ordinary user; "> " continues
// it. The other lines are the command's output and standard error. A line "…" stands
// for any number of lines, "…" in a line for any text. Blanks at the end of a line, and
// blank lines at the end of the output, do not count.
//
// All blocks of a file are one session: two bash shells, root's and the user's, in a
// sandbox in which the machine's files can only be read. In a step's folder, and in
// files named after it as solutions/step03.md, minidocker is that step's; elsewhere
// it is the engine's or, while there is none, the newest step's. A session has $STEP
// and $REPO, the absolute paths of the step and the repository, $ROOTFS, a root file
// system of its own, an empty working folder within the module, and go.
package main
