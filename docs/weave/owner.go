package main

// owner says to which declaration a line of a diff belongs: one of the new file or,
// if the declaration is gone, one of the old file.
type owner struct {
	gone  bool
	index int // in the file's decls; -1 if in none
}

var nobody = owner{index: -1}

// attribute finds the owner of every line of the diff. Context and added lines belong
// to the new file's declarations. A deleted line belongs to the one that it was in,
// under the name that it has now.
func (d *fileDiff) attribute() {
	was := d.successors()
	d.owners = make([]owner, len(d.ops))
	for i, o := range d.ops {
		d.owners[i] = nobody
		if o.kind != '-' {
			d.owners[i] = owner{index: declAt(d.new.decls, o.new)}
		} else if at := declAt(d.old.decls, o.old); at >= 0 {
			d.owners[i] = was[at]
		}
	}
}

// successors says of each old declaration what it is in the new file.
func (d *fileDiff) successors() []owner {
	if d.old == nil {
		return nil
	}
	was := make([]owner, len(d.old.decls))
	for i, od := range d.old.decls {
		was[i] = owner{gone: true, index: i}
		if d.new == nil {
			continue
		}
		for _, name := range od.names {
			if at := declNamed(d.new.decls, name); at >= 0 {
				was[i] = owner{index: at}
				break
			}
		}
		if was[i].gone {
			if at := d.renamed(i); at >= 0 {
				was[i] = owner{index: at}
			}
		}
	}
	return was
}

// renamed finds the declaration that an old one became: one with a name that is new,
// in which at least half of its lines live on. It returns -1 if there is none.
func (d *fileDiff) renamed(index int) int {
	od := d.old.decls[index]
	shared := map[int]int{}
	for _, o := range d.ops {
		if o.kind == ' ' && od.from <= o.old && o.old <= od.to {
			shared[declAt(d.new.decls, o.new)]++
		}
	}
	best := -1
	for at, nd := range d.new.decls {
		half := shared[at]*2 >= od.lines()
		if half && d.isNew(nd) && (best < 0 || shared[at] > shared[best]) {
			best = at
		}
	}
	return best
}

func (d *fileDiff) isNew(nd decl) bool {
	for _, name := range nd.names {
		if declNamed(d.old.decls, name) >= 0 {
			return false
		}
	}
	return true
}

// decl is the declaration itself; there is none for nobody.
func (d *fileDiff) decl(o owner) (decl, bool) {
	switch {
	case o.index < 0:
		return decl{}, false
	case o.gone:
		return d.old.decls[o.index], true
	}
	return d.new.decls[o.index], true
}

// find looks a declaration up by its new name, else by its old one.
func (d *fileDiff) find(name string) (owner, bool) {
	if d.new != nil {
		if at := declNamed(d.new.decls, name); at >= 0 {
			return owner{index: at}, true
		}
	}
	if d.old != nil {
		if at := declNamed(d.old.decls, name); at >= 0 {
			return d.successors()[at], true
		}
	}
	return nobody, false
}
