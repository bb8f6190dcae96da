//go:build linux

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"minidocker/final/image"
)

// pages is how many pages of a list are read, of which a registry may have as many as it likes.
const pages = 1000

// maxPage is how large a page of a list may be, in bytes.
const maxPage = 4 << 20

// Tags lists the tags of a repository, as the registry sorts them.
func (c *Client) Tags(ctx context.Context, name string) ([]string, error) {
	ref, err := image.ParseReference(name)
	if err != nil {
		return nil, err
	}
	if ref.Tag != "" || ref.Digest != "" {
		return nil, fmt.Errorf("%s: want a repository's name, without a tag", name)
	}
	r, err := c.open(ctx, ref, "pull")
	if err != nil {
		return nil, err
	}
	defer r.http.CloseIdleConnections()
	var tags []string
	err = r.list(ctx, r.base.JoinPath("tags/list"), func(text []byte) error {
		var page struct{ Tags []string }
		err := json.Unmarshal(text, &page)
		tags = append(tags, page.Tags...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("tags of %s: %w", ref.FamiliarName(), denied(ref, err))
	}
	return tags, nil
}

// list reads a list page by page.
func (r *repository) list(ctx context.Context, at *url.URL, page func(text []byte) error) error {
	for range pages {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
		if err != nil {
			return err
		}
		response, err := r.do(request, http.StatusOK)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(io.LimitReader(response.Body, maxPage))
		response.Body.Close()
		if err == nil {
			err = page(text)
		}
		if err != nil {
			return err
		}
		if at = nextPage(response); at == nil {
			return nil
		}
		if at.Host != r.base.Host {
			return fmt.Errorf("the list goes on at %s, which is another host", at.Host)
		}
	}
	return errors.New("the list has no end")
}

// nextPage is where a list goes on, in the form of RFC 5988: <URL>; rel="next".
func nextPage(response *http.Response) *url.URL {
	link, after, ok := strings.Cut(response.Header.Get("Link"), ">")
	if !ok || !strings.HasPrefix(link, "<") || !strings.Contains(after, "next") {
		return nil
	}
	next, err := response.Request.URL.Parse(link[1:])
	if err != nil {
		return nil
	}
	return next
}

// Found is a repository that Search has found.
type Found struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Stars       int    `json:"star_count"`
	Official    bool   `json:"is_official"`
	Automated   bool   `json:"is_automated"`
}

// Search looks for repositories whose names have a word in them: on Docker Hub, or, as
// REGISTRY/WORD, in another registry. Limit is how many there may be, at most 100.
func (c *Client) Search(ctx context.Context, term string, limit int) ([]Found, error) {
	domain, word := "docker.io", strings.TrimPrefix(term, "docker.io/")
	if first, rest, ok := strings.Cut(word, "/"); ok && strings.ContainsAny(first+"x", ".:") ||
		strings.HasPrefix(word, "localhost/") {
		domain, word = first, rest
	}
	if limit <= 0 || limit > 100 {
		limit = 25
	}
	found, err := c.search(ctx, domain, word, limit)
	if err != nil {
		err = fmt.Errorf("search %s: %w", term, err)
	}
	return found, err
}

func (c *Client) search(
	ctx context.Context, domain, word string, limit int,
) ([]Found, error) {
	if domain == "docker.io" {
		return c.searchHub(ctx, word, limit)
	}
	t, base, err := c.login(ctx, domain, []string{"registry:catalog:*"})
	if err != nil {
		return nil, err
	}
	r := &repository{client: c, base: base, http: &http.Client{Transport: t}}
	defer r.http.CloseIdleConnections()
	var found []Found
	err = r.list(ctx, base.JoinPath("_catalog"), func(text []byte) error {
		var page struct{ Repositories []string }
		err := json.Unmarshal(text, &page)
		for _, name := range page.Repositories {
			if strings.Contains(name, word) && len(found) < limit {
				found = append(found, Found{Name: domain + "/" + name})
			}
		}
		return err
	})
	if err != nil && status(err) == http.StatusNotFound {
		err = errors.New("the registry does not say what it has")
	}
	return found, err
}

// hubSearch is where Docker Hub is asked. It is of its first API, and all that is left of that.
const hubSearch = "https://index.docker.io/v1/search"

func (c *Client) searchHub(ctx context.Context, word string, limit int) ([]Found, error) {
	wire, err := c.transport("index.docker.io")
	if err != nil {
		return nil, err
	}
	r := &repository{client: c, http: &http.Client{Transport: wire, CheckRedirect: checkRedirect}}
	defer r.http.CloseIdleConnections()
	query := url.Values{"q": {word}, "n": {fmt.Sprint(limit)}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, hubSearch+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := r.do(request, http.StatusOK)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var page struct{ Results []Found }
	err = json.NewDecoder(io.LimitReader(response.Body, maxPage)).Decode(&page)
	return page.Results, err
}
