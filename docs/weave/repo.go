package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// lessonFile is the lesson in a step's folder.
const lessonFile = "README.md"

// repo is the repository: its steps and its files.
type repo struct {
	root string // absolute
	// files are the repository's files: those in git and those that could be added.
	// Relative to root, with slashes, sorted.
	files []string
	steps []*step // in order

	sources map[string]*source
	pages   map[string]*page
	table   *experimentTable
}

// step is one stepNN-name folder.
type step struct {
	number int
	name   string // of the folder
	prev   *step  // nil for the first

	diffs []*fileDiff // once made: see repo.diffs
}

// lesson is the path of the step's lesson.
func (s *step) lesson() string { return path.Join(s.name, lessonFile) }

// short is the step's name without the topic.
func (s *step) short() string { return fmt.Sprintf("step%02d", s.number) }

// openRepo finds the repository around dir: the nearest go.mod upwards.
func openRepo(dir string) (*repo, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for !isFile(filepath.Join(root, "go.mod")) {
		if root == filepath.Dir(root) {
			return nil, fmt.Errorf("no go.mod in %q or above: run weave in the repository", dir)
		}
		root = filepath.Dir(root)
	}
	r := &repo{root: root, sources: map[string]*source{}, pages: map[string]*page{}}
	if r.files, err = listFiles(root); err != nil {
		return nil, err
	}
	return r, r.findSteps()
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// listFiles lists the regular files that belong to the repository. What is not in a
// git repository, as after a download, is listed as it lies there.
func listFiles(root string) ([]string, error) {
	if _, err := os.Stat(filepath.Join(root, ".git")); err != nil {
		return walkFiles(root)
	}
	out, _, err := git(root, 0, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	files := slices.DeleteFunc(strings.Split(out, "\x00"), func(name string) bool {
		info, err := os.Lstat(filepath.Join(root, name))
		return name == "" || err != nil || !info.Mode().IsRegular()
	})
	slices.Sort(files)
	return slices.Compact(files), nil
}

func walkFiles(root string) ([]string, error) {
	var files []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := name != "." && strings.ContainsAny(e.Name()[:1], "._")
		if e.IsDir() && (hidden || name == "build" || e.Name() == "node_modules") {
			return fs.SkipDir
		}
		if e.Type().IsRegular() && !hidden {
			files = append(files, name)
		}
		return nil
	})
	return files, err
}

var stepPattern = regexp.MustCompile(`^step(\d\d)-.+$`)

func (r *repo) findSteps() error {
	entries, err := os.ReadDir(r.root) // sorted
	if err != nil {
		return err
	}
	var prev *step
	for _, e := range entries {
		m := stepPattern.FindStringSubmatch(e.Name())
		if m == nil || !e.IsDir() {
			continue
		}
		number, err := strconv.Atoi(m[1])
		if err != nil {
			return err
		}
		prev = &step{number: number, name: e.Name(), prev: prev}
		r.steps = append(r.steps, prev)
	}
	return nil
}

var stepArg = regexp.MustCompile(`^(?:step)?(\d{1,2})$`)

// step finds the step that the user names 3, 03, step03 or step03-pid-mount.
func (r *repo) step(arg string) (*step, error) {
	number := -1
	if m := stepArg.FindStringSubmatch(arg); m != nil {
		number, _ = strconv.Atoi(m[1]) // one or two digits
	}
	for _, s := range r.steps {
		if s.number == number || s.name == filepath.Base(arg) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no step %q: there are %s", arg, r.stepNames())
}

func (r *repo) stepNames() string {
	if len(r.steps) == 0 {
		return "none"
	}
	var names []string
	for _, s := range r.steps {
		names = append(names, s.name)
	}
	return strings.Join(names, ", ")
}

// stepOf is the step in whose folder the file is, or nil.
func (r *repo) stepOf(file string) *step {
	folder, _, _ := strings.Cut(file, "/")
	for _, s := range r.steps {
		if s.name == folder {
			return s
		}
	}
	return nil
}

// lessonOf is the step whose lesson the file is, or nil.
func (r *repo) lessonOf(file string) *step {
	if s := r.stepOf(file); s != nil && s.lesson() == file {
		return s
	}
	return nil
}

// code lists the step's code, relative to its folder.
func (r *repo) code(s *step) ([]string, error) {
	var names []string
	for _, file := range r.files {
		name, ok := strings.CutPrefix(file, s.name+"/")
		if !ok || !isCode(name) {
			continue
		}
		src, err := r.source(file)
		if err != nil {
			return nil, err
		}
		if src.text() {
			names = append(names, name)
		}
	}
	return names, nil
}

func isCode(name string) bool {
	return path.Base(name) != lessonFile && !strings.HasSuffix(name, "_test.go")
}

// markdown lists the repository's Markdown files.
func (r *repo) markdown() []string {
	var names []string
	for _, file := range r.files {
		if strings.HasSuffix(file, ".md") {
			names = append(names, file)
		}
	}
	return names
}

// abs is the file's path on this machine.
func (r *repo) abs(file string) string { return filepath.Join(r.root, filepath.FromSlash(file)) }

// has says whether a file or folder belongs to the repository.
func (r *repo) has(name string) bool {
	if name == "." {
		return true
	}
	at, found := slices.BinarySearch(r.files, name)
	if !found { // then its own files would follow
		at, _ = slices.BinarySearch(r.files, name+"/")
	}
	return found || (at < len(r.files) && strings.HasPrefix(r.files[at], name+"/"))
}

// notExist says that a file is missing, rather than unreadable.
func notExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
